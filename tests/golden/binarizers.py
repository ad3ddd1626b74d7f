"""Golden values of the binarizers: writes binarizers.h beside it. From the formulas, in torch's double precision with torch's own derivatives wherever a
formula has one; only the sign's surrogate is written by hand.

    python3 tests/golden/binarizers.py
"""
import math
import os

import numpy as np
import torch

torch.manual_seed(2023)
torch.set_default_dtype(torch.float64)


def poly(x):
    inside = torch.where(x < 0, 2 + 2 * x, 2 - 2 * x)
    return torch.where((x >= -1) & (x < 1), inside, torch.zeros_like(x))


def ste(x):
    return (x.abs() <= 1).double()


def series(n, w=0.1):
    def slope(x):
        s = sum(torch.cos((2 * i + 1) * w * x) for i in range(n + 1))
        return 4 * w / math.pi * s * (x.abs() <= 1)
    return slope


def sign(x, slope):
    """The sign (+1 at 0) whose derivative is slope(x)."""
    hard = torch.where(x >= 0, 1.0, -1.0)
    return hard.detach() + slope(x.detach()) * (x - x.detach())


def scaled(w, slope):
    return sign(w, slope) * w.abs().flatten(1).mean(1).detach().view(-1, *[1] * (w.dim() - 1))


def xnor_weight(w):
    if w.dim() == 2:
        w = w - w.mean(1, keepdim=True)
    s = w.abs().flatten(1).mean(1).detach().view(-1, *[1] * (w.dim() - 1))
    clipped = w.clamp(-1, 1)
    return (s * torch.where(w >= 0, 1.0, -1.0)).detach() - clipped.detach() + clipped


def xnor_act(x):
    k = x.abs().flatten(1).mean(1).detach().view(-1, *[1] * (x.dim() - 1))
    clipped = x.clamp(-1, 1)
    return (k * torch.where(x >= 0, 1.0, -1.0)).detach() - clipped.detach() + clipped


def recu_weight(w, tau):
    rows = w.flatten(1)
    w0 = rows - rows.mean(1, keepdim=True)
    w1 = w0 / ((w0.var(1, keepdim=True) + 1e-5).sqrt() / (2 * math.sqrt(2)))
    top = (-w1.abs().mean() * math.log(2 - 2 * tau)).item()
    w2 = w1.clamp(-top, top)
    return sign(w2, torch.ones_like).view_as(w)


def recu_act(x):
    dims = list(range(1, x.dim()))
    u = x / (x.var(dims, keepdim=True) + 1e-5).sqrt()
    return sign(u, lambda v: (2 - 2 * v.abs()).clamp(min=0))


def tau(epoch, epochs):
    a = (0.99 - 0.85) / (math.e - 1)
    return a * math.exp(epoch / epochs) + 0.85 - a


# numbers that a float holds exactly, and none so near to where a surrogate jumps that rounding could decide
def draw(*shape):
    return torch.round(torch.randn(*shape) * 0.7 * 1024) / 1024


w4, w2, x4, x2 = draw(4, 3, 3, 3), draw(5, 12), draw(2, 3, 4, 4), draw(4, 12)
shift = torch.round(torch.randn(3) * 256) / 1024
cases = []


def case(name, spec, role, x, f, epoch=0, epochs=0, extra=()):
    x = x.clone().requires_grad_()
    extra = [e.clone().requires_grad_() for e in extra]
    y = f(x, *extra)
    dy = torch.round(torch.randn_like(y) * 256) / 256
    (y * dy).sum().backward()
    cases.append((name, spec, role, x, dy, y.detach(), x.grad, epoch, epochs, extra))


case("bnn_w", "bnn", "W", w4, lambda w: sign(w, ste))
case("bnn_a", "bnn", "A", x4, lambda x: sign(x, ste))
case("xnor_w4", "xnor", "W", w4, xnor_weight)
case("xnor_w2", "xnor", "W", w2, xnor_weight)
case("xnor_a4", "xnor", "A", x4, xnor_act)
case("xnor_a2", "xnor", "A", x2, xnor_act)
case("dorefa_w", "{use: dorefa, num_bits: 1, signs: true}", "W", w4, lambda w: scaled(w, ste))
case("dorefa_a", "{use: dorefa, num_bits: 1, signs: true}", "A", x4, lambda x: sign(x, ste))
case("bi_real_w", "bi_real", "W", w4, lambda w: scaled(w, ste))
case("bi_real_a", "bi_real", "A", x4, lambda x: sign(x, poly))
case("reactnet_w", "reactnet", "W", w4, lambda w: scaled(w, ste))
case("reactnet_a", "reactnet", "A", x4, lambda x, t: sign(x + t.view(1, -1, 1, 1), poly), extra=[shift])
for e in range(3):
    case(f"recu_w{e}", "recu", "W", w4, lambda w: recu_weight(w, tau(e, 3)), e, 3)
    case(f"fda_w{e}", "fda", "W", w4, lambda w: scaled(w, series(9 + 9 * e // 3)), e, 3)
case("recu_a", "recu", "A", x4, recu_act)
case("fda_a", "{use: fda, noise: false}", "A", x4, lambda x: sign(x, series(9 + 9 * 1 // 3)), 1, 3)


def eta(x, w1, w2):
    hidden = torch.relu(torch.einsum("hc,nc...->nh...", w1, x))
    return torch.einsum("ch,nh...->nc...", w2, hidden) + 0.1 * torch.sin(x)


m1, m2 = torch.round(torch.randn(1, 3) * 256) / 256, torch.round(torch.randn(3, 1) * 256) / 256
case("fda_noise", "fda", "A", x4, lambda x, a, b: sign(x, series(9)) + 0.05 * (1 + math.cos(math.pi / 3)) * eta(x, a, b), 0, 3, [m1, m2])


def numbers(a):
    return "{" + ", ".join(format(float(v), ".12g") for v in np.asarray(a.detach()).ravel()) + "}"


out = ["/* Made by binarizers.py. */\n"]
rows = []
for name, spec, role, x, dy, y, dx, epoch, epochs, extra in cases:
    for part, v in (("x", x), ("dy", dy), ("y", y), ("dx", dx)):
        out.append(f"static const double {name}_{part}[] = {numbers(v)};\n")
    for k in range(2):
        given = k < len(extra)
        out.append(f"static const double {name}_p{k}[] = {numbers(extra[k]) if given else '{0}'};\n")
        out.append(f"static const double {name}_dp{k}[] = {numbers(extra[k].grad) if given else '{0}'};\n")
    dims = ", ".join(str(d) for d in x.shape)
    rows.append(f'    {{"{spec}", {role}, {x.dim()}, {{{dims}}}, {epoch}, {epochs}, {len(extra)}, {name}_x, {name}_dy, {name}_y, {name}_dx, '
                f"{{{name}_p0, {name}_p1}}, {{{name}_dp0, {name}_dp1}}}},\n")
out.append("static const struct {\n    const char *spec;\n    qt_role role;\n    int rank;\n    int64_t dim[4];\n    int64_t epoch, epochs;\n    int params;\n"
           "    const double *x, *dy, *y, *dx, *p[2], *dp[2];\n} golden[] = {\n" + "".join(rows) + "};\n")
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "binarizers.h"), "w") as f:
    f.writelines(out)
