"""Trajectories and factors for tests/test_optim.c, written from the definitions in PyTorch's documentation, float64.
Run: python3 tests/golden/optim.py"""
import math
import numpy as np

w0 = np.array([0.5, -1.25, 2.0])


def grad(w, k):
    return np.array([0.3, -0.7, 1.1]) * w + 0.1 * (k + 1) * np.array([1.0, -2.0, 0.5])


def sgd(lr, momentum=0.0, dampening=0.0, decay=0.0, nesterov=False, steps=5):
    w, buf = w0.copy(), None
    for k in range(steps):
        g = grad(w, k) + decay * w
        if momentum:
            buf = g.copy() if buf is None else momentum * buf + (1 - dampening) * g
            g = g + momentum * buf if nesterov else buf
        w = w - lr * g
    return w


def adam(lr, b1=0.9, b2=0.999, eps=1e-8, decay=0.0, decoupled=False, steps=5):
    w, m, v = w0.copy(), np.zeros(3), np.zeros(3)
    for k in range(steps):
        g = grad(w, k)
        if decoupled:
            w = w * (1 - lr * decay)
        else:
            g = g + decay * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        w = w - lr / (1 - b1 ** (k + 1)) * m / (np.sqrt(v) / math.sqrt(1 - b2 ** (k + 1)) + eps)
    return w


def one_cycle(step, total, pct=0.3, div=25.0, final_div=1e4):
    """torch.optim.lr_scheduler.OneCycleLR, anneal_strategy='cos', as a factor of max_lr"""
    low, last = 1 / div, 1 / div / final_div
    phases = [(pct * total - 1, low, 1.0), (total - 1, 1.0, last)]
    start = 0.0
    for i, (end, a, b) in enumerate(phases):
        if step <= end or i == 1:
            u = (step - start) / (end - start)
            return b + (a - b) / 2 * (1 + math.cos(math.pi * u))
        start = end


for name, w in [
    ("sgd", sgd(0.1)), ("sgd decay", sgd(0.1, decay=0.05)), ("momentum", sgd(0.1, 0.9)), ("dampening decay", sgd(0.1, 0.9, 0.25, 0.05)),
    ("nesterov decay", sgd(0.1, 0.9, 0, 0.05, True)), ("adam", adam(0.05)), ("adam decay", adam(0.05, decay=0.1)),
    ("adamw", adam(0.05, decay=0.1, decoupled=True)), ("adam betas eps", adam(0.05, 0.8, 0.95, 1e-3)),
]:
    print(name, ", ".join("%.15g" % x for x in w))
for k in (0, 7, 29, 30, 60, 99):
    print("one_cycle", k, "%.15g" % one_cycle(k, 100))
for k in (0, 4, 9):
    print("one_cycle of 10, pct 0.5 div 10 final 100", k, "%.15g" % one_cycle(k, 10, 0.5, 10, 100))
for k in (0, 25, 50, 75, 99):
    print("cosine 0.1", k, "%.15g" % (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 100))))
