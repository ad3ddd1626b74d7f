"""Golden values of the L1 norms, forward and backward: writes l1_norm.h beside it. From the definitions, in double, with numpy alone; the
gradients are central differences of the definition's value, so that the formula of the backward is not used here.

    python3 tests/golden/l1_norm.py
"""
import os

import numpy as np

rng = np.random.default_rng(24112024)
rows = []


def normalize(x, w, b, axes, eps, shape, running=None):
    mean = x.mean(axes, keepdims=True) if running is None else running[0].reshape(shape)
    sigma = np.abs(x - mean).mean(axes, keepdims=True) if running is None else running[1].reshape(shape)
    return (x - mean) / (sigma + eps) * w.reshape(shape) + b.reshape(shape), mean, sigma


def difference(f, x, h=1e-6):
    """gradient of the scalar f() by each element of x, which f reads"""
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        keep = x[i]
        x[i] = keep + h
        up = f()
        x[i] = keep - h
        g[i] = (up - f()) / (2 * h)
        x[i] = keep
    return g


def case(name, x_shape, axes, shape, eps, frozen=False):
    C = int(np.prod(shape))
    x, dy = rng.normal(size=x_shape), rng.normal(size=x_shape)
    w, b = rng.normal(size=C), rng.normal(size=C)
    running = (rng.normal(size=C), rng.uniform(0.5, 2, C))
    x, dy, w, b = (np.round(v * 256) / 256 for v in (x, dy, w, b))
    running = tuple(np.round(v * 256) / 256 for v in running)
    use = running if frozen else None
    value = lambda: (normalize(x, w, b, axes, eps, shape, use)[0] * dy).sum()
    y, mean, sigma = normalize(x, w, b, axes, eps, shape, use)
    grads = [difference(value, v) for v in (x, w, b)]
    moved = running
    if not frozen and len(shape) > 1 and 0 in axes:
        moved = (0.75 * running[0] + 0.25 * mean.ravel(), 0.75 * running[1] + 0.25 * sigma.ravel())
    numbers = ",\n     ".join("(const double[]){" + ", ".join(repr(float(v)) for v in np.asarray(a).ravel()) + "}"
                             for a in (x, w, b, running[0], running[1], dy, y, *grads, moved[0], moved[1]))
    dims = ", ".join(map(str, x_shape))
    rows.append(f'    {{"{name}", {len(x_shape)}, {{{dims}}}, {C}, {eps}, {"true" if frozen else "false"},\n     {numbers}}},\n')


case("batch rows", (5, 3), (0,), (1, 3), 1e-5)
case("batch images", (3, 2, 3, 4), (0, 2, 3), (1, 2, 1, 1), 1e-3)
case("batch long runs", (2, 2, 5, 9), (0, 2, 3), (1, 2, 1, 1), 1e-5)
case("batch frozen", (3, 2, 2, 2), (0, 2, 3), (1, 2, 1, 1), 1e-5, True)
case("layer", (4, 7), (1,), (1, 7), 1e-5)
case("layer wide", (2, 2, 45), (2,), (1, 1, 45), 1e-2)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "l1_norm.h"), "w") as f:
    f.write("/* Made by l1_norm.py beside this file: x, weight, bias, running mean and sigma, dy; y, dx, dweight, dbias, running values after. */\n")
    f.write("static const golden goldens[] = {\n" + "".join(rows) + "};\n")
