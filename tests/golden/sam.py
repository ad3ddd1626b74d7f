"""Golden trajectories of the steppers `sam` and `sagm`: writes sam.h beside it. A small quantized network on 48 digits, in torch with float64 and its own
autograd; LSQ is written with detach(), as in its paper. Of each tensor two numbers are kept, sums of v_i cos(i) and of v_i sin(3 i).

    python3 tests/golden/sam.py
"""
import re
from pathlib import Path

import torch

HERE = Path(__file__).parent
torch.set_default_dtype(torch.float64)
STEPS, LR = 6, 0.1

texts = re.findall(r'"([a-q]{64})(\d)"', (HERE.parent.parent / "datasets/digits.h").read_text())
train = [t for i, t in enumerate(texts) if i % 4 != 3][:48]
x = torch.tensor([[ord(c) - ord("a") for c in t] for t, _ in train]) / 16
y = torch.tensor([int(c) for _, c in train])


def wave(k, n, size):
    return size * torch.sin(0.37 * torch.arange(n) + k)


def start():
    p = {"fc1.weight": wave(1, 8 * 64, 0.2).reshape(8, 64), "fc1.bias": wave(2, 8, 0.1), "bn.weight": 1 + wave(3, 8, 0.2), "bn.bias": wave(4, 8, 0.3),
         "fc2.weight": wave(5, 10 * 8, 0.4).reshape(10, 8), "fc2.bias": wave(6, 10, 0.1),
         "fc1.weight.scale": torch.tensor([0.05]), "fc1.input.scale": torch.tensor([0.08]), "fc2.weight.scale": torch.tensor([0.1]), "fc2.input.scale": torch.tensor([0.2])}
    return {k: v.clone().requires_grad_() for k, v in p.items()}


def lsq(v, s, n, p, N):
    g = (N * p) ** -0.5
    s = (s - s * g).detach() + s * g
    u = torch.clamp(v / s, n, p)
    return (u.round() - u).detach() * s + u * s


def loss_of(p, running=None):
    h = lsq(x, p["fc1.input.scale"], 0, 15, 64) @ lsq(p["fc1.weight"], p["fc1.weight.scale"], -8, 7, 512).T + p["fc1.bias"]
    if running:
        for key, v in (("mean", h.mean(0)), ("var", h.var(0))):
            running[key] += 0.1 * (v.detach() - running[key])
    h = torch.relu((h - h.mean(0)) / torch.sqrt(h.var(0, unbiased=False) + 1e-5) * p["bn.weight"] + p["bn.bias"])
    out = lsq(h, p["fc2.input.scale"], 0, 15, 8) @ lsq(p["fc2.weight"], p["fc2.weight.scale"], -8, 7, 80).T + p["fc2.bias"]
    return torch.nn.functional.cross_entropy(out, y)


def grads(p, running=None):
    return dict(zip(p, torch.autograd.grad(loss_of(p, running), list(p.values()))))


def flips(signs):
    return sum(a != b for a, b in zip(signs, signs[1:])) / (len(signs) - 1)


def run(rho, alpha, plain, freeze=None, K=2, tau=0.0):
    p, running = start(), {"mean": torch.zeros(8), "var": torch.ones(8)}
    scales = [k for k in p if k.endswith(".scale")]
    frozen, signs = dict.fromkeys(scales, False), {k: [] for k in scales}
    for t in range(STEPS):
        g = grads(p, running)
        norm = sum((v ** 2).sum() for k, v in g.items() if k not in scales) ** 0.5
        there = {k: v if k in scales else (v + rho / norm * g[k] - alpha * g[k]).detach().requires_grad_() for k, v in p.items()}
        g2 = grads(there)
        for k in p:
            parts = [0 if plain else g[k], g2[k]]
            if k in scales:
                signs[k].append(torch.sign((g if freeze == 0 else g2)[k]).item())
                if frozen[k]:
                    parts[freeze] = 0
            p[k] = (p[k] - LR * (parts[0] + parts[1])).detach().requires_grad_()
        if t % K == K - 1 and freeze is not None:
            for k in scales:
                frozen[k] = flips(signs[k]) < tau
                signs[k] = []
    return {**p, "bn.running_mean": running["mean"], "bn.running_var": running["var"]}


ARMS = [
    ("{use: sam, rho: 0.05}", run(0.05, 0, True)), ("{use: sagm, rho: 0.1, alpha: 0.02}", run(0.1, 0.02, False)),
    ("{use: sagm, rho: 0.5, alpha: 0.01, freeze: task, window: 3, tau: 0.4}", run(0.5, 0.01, False, 0, 3, 0.4)),
    ("{use: sagm, rho: 0.5, alpha: 0.01, freeze: smooth, window: 2, tau: 0.5}", run(0.5, 0.01, False, 1, 2, 0.5)),
]

with open(HERE / "sam.h", "w") as f:
    f.write("/* Made by sam.py: trajectories of steppers, and where they end. */\nstatic const struct {\n    const char *step;\n")
    f.write("    struct {\n        const char *name;\n        double      c, s;\n    } tensor[12];\n} golden_sam[] = {\n")
    for step, p in ARMS:
        f.write('    {"%s",\n     {' % step)
        rows = []
        for k, v in p.items():
            v, i = v.detach().ravel(), torch.arange(v.numel())
            rows.append('{"%s", %.15g, %.15g}' % (k, (v * torch.cos(i.double())).sum(), (v * torch.sin(3 * i.double())).sum()))
        f.write(",\n      ".join(rows) + "}},\n")
    f.write("};\n")
