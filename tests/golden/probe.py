#!/usr/bin/env python3
"""Golden vectors of quantizers, layers and a loss, from numpy alone: writes probe.txt beside itself.

Element-wise arithmetic of quantizers is done in float32 exactly as the formulas say (true division, half to even), so that codes, values
and masks must agree bit for bit; sums and whatever goes through tanh or a mean are float64 and are compared with a relative tolerance.

    case NAME
    args ARGUMENTS OF qtape probe
    in  DATASET dims... : values          (the bits of float32, hexadecimal)
    out DATASET TOLERANCE dims... : values
"""
import os
import numpy as np

F = np.float32
rng = np.random.default_rng(20240229)
lines = []


def line(kind, name, a, tol=None):
    a = np.ascontiguousarray(np.atleast_1d(np.asarray(a, F)))
    tolerance = [] if tol is None else ["%g" % tol]
    lines.append(" ".join([kind, name, *tolerance, *map(str, a.shape), ":", *("%08x" % v for v in a.ravel().view(np.uint32))]))


def case(name, args, inputs, outputs):
    """outputs: name -> array (must be equal) or (array, relative tolerance)."""
    lines.append("case " + name)
    lines.append("args " + args)
    for k, v in inputs.items():
        line("in", k, v)
    for k, v in outputs.items():
        line("out", k, *(v if isinstance(v, tuple) else (v, 0)))


def normal(*shape):
    return rng.standard_normal(shape).astype(F)


def per(shape, axis):
    """Shape that broadcasts one number for each index of an axis; None: one number for all."""
    return [1] * len(shape) if axis is None else [n if i == axis % len(shape) else 1 for i, n in enumerate(shape)]


def sum_over(a, axis):
    a = a.astype(np.float64)
    return np.array([a.sum()]) if axis is None else a.sum(axis=tuple(i for i in range(a.ndim) if i != axis % a.ndim))


def bounds(bits, signed=True, narrow=False):
    if not signed:
        return F(0), F(2**bits - 1)
    p = 2 ** (bits - 1) - 1
    return F(-p if narrow else -p - 1), F(p)


# ---- learned steps ---------------------------------------------------------------------------------------------------------------

def lsq(x, dy, s, bits, signed=True, axis=None, g=1.0, offset=None):
    n, p = bounds(bits, signed)
    sb = np.asarray(s, F).reshape(per(x.shape, axis))
    ob = F(0) if offset is None else np.asarray(offset, F).reshape(per(x.shape, axis))
    u = (x - ob) / sb
    inside = (u > n) & (u < p)
    code = np.rint(np.clip(u, n, p)) + F(0)
    slope = np.where(inside, np.rint(u) - u, np.clip(u, n, p)).astype(np.float64)
    out = {"y": code * sb + ob if offset is not None else code * sb, "codes": code, "scale": np.atleast_1d(s),
           "grad_x": np.where(inside, dy, F(0)), "grad_scale": (g * sum_over(dy.astype(np.float64) * slope, axis), 2e-6)}
    if offset is not None:
        out["grad_offset"] = (g * sum_over(np.where(inside, 0, dy), axis), 2e-6)
    return out


x = np.array([0.0, -0.0, 0.125, 0.375, -0.125, -0.375, 0.25, 1.74, 1.75, 1.76, -1.99, -2.0, -2.01, 100, -100, 1e-40, -1e-40, 1.625, -1.875, 0.6], F)
dy = normal(20)
dy[3] = F(1e-40)
case("lsq_ties", "quant lsq num_bits=4 signed=true granularity=tensor grad_scale=none", {"x": x, "scale": 0.25, "grad_y": dy}, lsq(x, dy, F(0.25), 4))
x, dy, s = normal(3, 4, 5), normal(3, 4, 5), np.array([0.3, 0.11, 0.5, 1.7], F)
case("lsq_channel", "quant lsq num_bits=2 signed=false granularity=channel axis=1 grad_scale=numel", {"x": x, "scale": s, "grad_y": dy},
     lsq(x, dy, s, 2, False, 1, 1 / np.sqrt(60 * 3)))
case("lsq_features", "quant lsq num_bits=3 grad_scale=features", {"x": x, "scale": 0.4, "grad_y": dy}, lsq(x, dy, F(0.4), 3, g=1 / np.sqrt(20 * 3)))
case("lsq_two_bits", "quant lsq num_bits=2 granularity=channel axis=-1 grad_scale=features role=weight", {"x": x, "scale": s[[0, 1, 2, 3, 0]], "grad_y": dy},
     lsq(x, dy, s[[0, 1, 2, 3, 0]], 2, True, 2, 1 / np.sqrt(60)))
w = normal(40)
s0 = F(2 * np.abs(w.astype(np.float64)).mean() / np.sqrt(7))
r = lsq(w, np.ones(40, F), s0, 4)
case("lsq_start", "quant lsq num_bits=4 grad_scale=none", {"x": w}, {"scale": (s0, 1e-6), "codes": r["codes"], "grad_x": r["grad_x"], "y": (r["y"], 1e-6)})
case("lsq_plus_unsigned", "quant lsq_plus num_bits=2 signed=false grad_scale=none", {"x": x, "scale": 0.6, "offset": -0.3, "grad_y": dy},
     lsq(x, dy, F(0.6), 2, False, offset=F(-0.3)))
o = np.array([-0.3, 0.0, 0.2, 5], F)
case("lsq_plus_channel", "quant lsq_plus num_bits=3 granularity=channel axis=1 grad_scale=numel", {"x": x, "scale": s, "offset": o, "grad_y": dy},
     lsq(x, dy, s, 3, True, 1, 1 / np.sqrt(60 * 3), o))

# ---- uniform ---------------------------------------------------------------------------------------------------------------------


def grid(lo, hi, n, p, symmetric):
    lo, hi = F(lo), F(hi)
    if symmetric:
        return max(max(-lo, hi) / p, F(1e-8)), F(0)
    lo, hi = min(lo, F(0)), max(hi, F(0))
    s = max((hi - lo) / (p - n), F(1e-8))
    return s, np.clip(np.rint(n - lo / s), n, p) + F(0)


def observe(v, observer, n, p, symmetric):
    lo, hi = v.min(), v.max()
    m = v.size
    if observer == "percentile":
        k = int(np.ceil(0.999 * m)) - 1
        if symmetric:
            hi = np.sort(np.abs(v))[k]
            lo = -hi
        else:
            lo, hi = np.sort(v)[m - 1 - k], np.sort(v)[k]
    if observer == "mse":
        best = None
        for i in range(100, 0, -1):
            f = F(i) / F(100)
            s, z = grid(lo * f, hi * f, n, p, symmetric)
            y = (np.clip(np.rint(v / s) + z, n, p) - z) * s
            e = (((y - v).astype(np.float64)) ** 2).sum()
            if best is None or e < best[0]:
                best = (e, lo * f, hi * f)
        lo, hi = best[1:]
    return lo, hi


def uniform(x, dy, bits, symmetric, narrow=False, rows=None, back=None, observer="minmax", given=None):
    """rows(x): [scales, elements of each]; back: the inverse of rows."""
    n, p = bounds(bits, symmetric, narrow)
    v = rows(x) if rows else x.reshape(1, -1)
    sz = [given] if given else [grid(*observe(r, observer, n, p, symmetric), n, p, symmetric) for r in v]
    s, z = (np.array([a[i] for a in sz], F) for i in (0, 1))
    qu = np.rint(v / s[:, None]) + z[:, None]
    code = np.clip(qu, n, p)
    inside = (qu >= n) & (qu <= p)
    to = back or (lambda a: a.reshape(x.shape))
    return {"y": to((code - z[:, None]) * s[:, None]), "codes": to(code), "scale": s, "zero_point": z,
            "grad_x": np.where(to(inside), dy, F(0))}


x, dy = normal(4, 6, 8), normal(4, 6, 8)
a = {"x": x, "grad_y": dy}
ch0 = dict(rows=lambda t: t.reshape(4, -1))
ch1 = dict(rows=lambda t: t.transpose(1, 0, 2).reshape(6, -1), back=lambda t: t.reshape(6, 4, 8).transpose(1, 0, 2))
token = dict(rows=lambda t: t.reshape(-1, 8))
group = dict(rows=lambda t: t.reshape(-1, 4))
case("uniform_tensor", "quant uniform num_bits=4 symmetric=true", a, uniform(x, dy, 4, True))
case("uniform_narrow", "quant uniform num_bits=3 symmetric=true narrow=true granularity=channel axis=0", a, uniform(x, dy, 3, True, True, **ch0))
case("uniform_channel", "quant uniform num_bits=4 symmetric=false granularity=channel axis=1", a, uniform(x, dy, 4, False, **ch1))
case("uniform_group", "quant uniform num_bits=4 symmetric=true granularity=group group_size=4", a, uniform(x, dy, 4, True, **group))
case("uniform_token", "quant uniform num_bits=8 symmetric=false granularity=token", a, uniform(x, dy, 8, False, **token))
case("uniform_ema", "quant uniform num_bits=5 symmetric=false observer=ema", a, uniform(x, dy, 5, False, observer="ema"))
case("uniform_positive", "quant uniform num_bits=4 symmetric=false", {"x": np.abs(x) + F(1)}, uniform(np.abs(x) + F(1), np.ones_like(x), 4, False))
case("uniform_given", "quant uniform num_bits=3 symmetric=false", {**a, "scale": 0.3, "zero_point": 2}, uniform(x, dy, 3, False, given=(F(0.3), F(2))))
case("uniform_mask", "quant uniform num_bits=2 symmetric=true",
     {"x": [1.4, 1.5, 1.6, -2.4, -2.5, -2.6, 0.5, -0.5, 9], "scale": 1.0},
     {"y": [1, 1, 1, -2, -2, -2, 0, 0, 1], "codes": [1, 1, 1, -2, -2, -2, 0, 0, 1], "grad_x": [1, 0, 0, 1, 1, 0, 1, 1, 0]})
big = normal(1, 1500)
big[0, 7] = F(40)
case("uniform_percentile", "quant uniform num_bits=4 symmetric=true observer=percentile", {"x": big}, uniform(big, np.ones_like(big), 4, True, observer="percentile"))
case("uniform_percentile2", "quant uniform num_bits=4 symmetric=false observer=percentile", {"x": big},
     uniform(big, np.ones_like(big), 4, False, observer="percentile"))
case("uniform_mse", "quant uniform num_bits=3 symmetric=true observer=mse granularity=channel axis=1", a, uniform(x, dy, 3, True, observer="mse", **ch1))
case("uniform_mse2", "quant uniform num_bits=2 symmetric=false observer=mse", a, uniform(x, dy, 2, False, observer="mse"))

# ---- dynamic integers, ternary, binary ---------------------------------------------------------------------------------------------------


def integers(x, dy, bits, top, rows):
    n, p = bounds(bits)
    v = rows(x)
    s = np.maximum(np.abs(v).max(axis=1), F(1e-5)) / F(top)
    code = np.clip(np.rint(v / s[:, None]), n, p) + F(0)
    return {"y": (code * s[:, None]).reshape(x.shape), "codes": code.reshape(x.shape), "scale": s, "grad_x": dy}


x[0, 0] = 0
x[1, 2] = F(1e-40)
case("int_token", "quant int num_bits=8 granularity=token range=127", a, integers(x, dy, 8, 127, lambda t: t.reshape(-1, 8)))
case("int_token_128", "quant int num_bits=8 granularity=token range=128", a, integers(x, dy, 8, 128, lambda t: t.reshape(-1, 8)))
case("int_tensor", "quant int num_bits=4 granularity=tensor", a, integers(x, dy, 4, 7, lambda t: t.reshape(1, -1)))


def ternary(x, dy, s):
    s = F(s)
    code = np.clip(np.rint(x / s), -1, 1).astype(F) + F(0)
    return {"y": (code * s, 1e-6), "codes": code, "scale": ([s], 1e-6), "grad_x": dy}


w, dw = normal(6, 8), normal(6, 8)
mean = np.abs(w.astype(np.float64)).mean()
a = {"x": w, "grad_y": dw}
case("ternary_mean", "quant ternary measure=absmean", a, ternary(w, dw, mean))
r = ternary(w, dw, np.sort(np.abs(w).ravel())[23])
r["y"], r["scale"] = r["y"][0], r["scale"][0]
case("ternary_median", "quant ternary measure=absmedian", a, r)
case("ternary_max", "quant ternary measure=absmax", a, ternary(w, dw, np.abs(w).max()))
half = np.float16(F(mean))
r = ternary(w, dw, half)
r["y"], r["scale"] = r["y"][0], r["scale"][0]
case("ternary_fp16", "quant ternary measure=absmean scale_grid=fp16", a, r)
tiny = np.full((2, 3), 1e-40, F)
case("ternary_floor", "quant ternary scale_grid=fp16", {"x": tiny}, {"scale": [np.float16(1e-5)], "codes": tiny * 0, "y": tiny * 0})
s = np.abs(w.astype(np.float64)).mean(axis=1).astype(F)
case("binary_channel", "quant binary granularity=channel axis=0", a,
     {"y": (np.where(w < 0, -1, 1) * s[:, None], 1e-6), "codes": np.where(w < 0, -1, 1), "scale": (s, 1e-6), "grad_x": np.where(np.abs(w) <= 1, dw, 0)})

# ---- PACT, DoReFa ---------------------------------------------------------------------------------------------------------------------------

x, dy = normal(5, 7) * F(2), normal(5, 7)
x[0, :4] = [0, -0.0, 1.5, -1e-40]
alpha = F(1.5)
s = alpha / F(15)
code = np.clip(np.rint(x / s), F(0), F(15)) + F(0)
case("pact", "quant pact num_bits=4", {"x": x, "alpha": alpha, "grad_y": dy},
     {"y": code * s, "codes": code, "scale": s, "grad_x": np.where((x >= 0) & (x < alpha), dy, 0), "grad_alpha": (dy[x >= alpha].astype(np.float64).sum(), 2e-6)})
for bits in (2, 4):
    v = np.tanh(x.astype(np.float64))
    m, n = np.abs(v).max(), 2**bits - 1
    q = np.rint((v / (2 * m) + 0.5) * n)
    case("dorefa_weight%d" % bits, "quant dorefa num_bits=%d role=weight" % bits, {"x": x, "grad_y": dy},
         {"y": (2 * q / n - 1, 1e-6), "grad_x": (dy * (1 - v * v) / m, 5e-6)})
case("dorefa_sign", "quant dorefa num_bits=1 role=weight", {"x": x, "grad_y": dy},
     {"y": (np.where(x < 0, -1, 1) * np.abs(x.astype(np.float64)).mean(), 1e-6), "grad_x": dy})
q = np.rint(np.clip(x, F(0), F(1)) * F(3))
case("dorefa_act", "quant dorefa num_bits=2 role=act", {"x": x, "grad_y": dy},
     {"y": (q / 3, 1e-6), "codes": q, "grad_x": np.where((x >= 0) & (x <= 1), dy, 0)})

# ---- layers and the loss, in float64 -----------------------------------------------------------------------------------------------------------

TOL = 1e-5
D = np.float64
x, w, b, dy = normal(5, 7), normal(3, 7), normal(3), normal(5, 3)
case("linear", "layer linear", {"x": x, "weight": w, "bias": b, "grad_y": dy},
     {"y": (x.astype(D) @ w.T + b, TOL), "grad_x": (dy.astype(D) @ w, TOL), "grad_weight": (dy.T.astype(D) @ x, TOL), "grad_bias": (dy.astype(D).sum(0), TOL)})
case("linear_plain", "layer linear", {"x": x, "weight": w}, {"y": (x.astype(D) @ w.T, TOL), "grad_x": (np.ones((5, 3)) @ w, TOL)})


def conv(x, w, b, dy_of, stride, padding, dilation, groups):
    N, C, H, W = x.shape
    O, I, kh, kw = w.shape
    xp = np.pad(x.astype(D), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    oh, ow = ((n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in ((H, kh), (W, kw)))
    y, dw, dxp = np.zeros((N, O, oh, ow)), np.zeros(w.shape), np.zeros(xp.shape)
    dy = dy_of((N, O, oh, ow))
    for o in range(O):
        for i in range(I):
            c = o // (O // groups) * I + i
            for u in range(kh):
                for v in range(kw):
                    at = np.s_[:, c, u * dilation:u * dilation + stride * (oh - 1) + 1:stride, v * dilation:v * dilation + stride * (ow - 1) + 1:stride]
                    y[:, o] += xp[at] * w[o, i, u, v]
                    dw[o, i, u, v] = (xp[at] * dy[:, o]).sum()
                    dxp[at] += dy[:, o] * D(w[o, i, u, v])
    dx = dxp[:, :, padding:padding + H, padding:padding + W]
    return dy, {"y": (y + b.reshape(1, -1, 1, 1), TOL), "grad_x": (dx, TOL), "grad_weight": (dw, TOL), "grad_bias": (dy.astype(D).sum((0, 2, 3)), TOL)}


for name, args, shape, kernel in [("conv2d", (1, 0, 1, 1), (2, 3, 6, 5), (4, 3, 3, 3)), ("conv2d_strided", (2, 1, 1, 1), (2, 3, 7, 6), (4, 3, 3, 2)),
                                  ("conv2d_groups", (1, 2, 2, 2), (2, 4, 6, 6), (6, 2, 3, 3)), ("conv2d_depthwise", (1, 1, 1, 4), (2, 4, 5, 5), (4, 1, 3, 3))]:
    x, w, b = normal(*shape), normal(*kernel), normal(kernel[0])
    dy, out = conv(x, w, b, lambda s: normal(*s), *args)
    case(name, "layer conv2d stride=%d padding=%d dilation=%d groups=%d" % args, {"x": x, "weight": w, "bias": b, "grad_y": dy}, out)


def normalize(x, dy, w, b, axes, eps, center, keep):
    """keep: shape of w that broadcasts; axes: the ones that statistics are over."""
    x, dy = x.astype(D), dy.astype(D)
    m = x.mean(axes, keepdims=True) if center else 0
    r = 1 / np.sqrt(((x - m) ** 2).mean(axes, keepdims=True) + eps)
    xh = (x - m) * r
    wb = w.reshape(keep).astype(D)
    g = dy * wb
    dx = r * (g - (g.mean(axes, keepdims=True) if center else 0) - xh * (g * xh).mean(axes, keepdims=True))
    over = tuple(i for i in range(x.ndim) if keep[i] == 1)
    out = {"y": (xh * wb + (b.reshape(keep) if b is not None else 0), TOL), "grad_x": (dx, 5e-5), "grad_weight": ((dy * xh).sum(over), TOL)}
    if b is not None:
        out["grad_bias"] = (dy.sum(over), TOL)
    return out, m, r


x, dy, w, b = normal(4, 3, 5, 2), normal(4, 3, 5, 2), normal(3), normal(3)
mean, var = normal(3), np.abs(normal(3)) + F(0.5)
out, m, r = normalize(x, dy, w, b, (0, 2, 3), 1e-3, True, (1, 3, 1, 1))
out["running_mean"] = (0.8 * mean + 0.2 * x.astype(D).mean((0, 2, 3)), TOL)
out["running_var"] = (0.8 * var + 0.2 * x.astype(D).var((0, 2, 3), ddof=1), TOL)
a = {"x": x, "weight": w, "bias": b, "running_mean": mean, "running_var": var, "grad_y": dy}
case("batch_norm", "layer batch_norm mode=train eps=1e-3 momentum=0.2", a, out)
c = (1, 3, 1, 1)
xh = (x.astype(D) - mean.reshape(c)) / np.sqrt(var.reshape(c).astype(D) + 1e-5)
case("batch_norm_eval", "layer batch_norm mode=eval", a,
     {"y": (xh * w.reshape(c) + b.reshape(c), TOL), "grad_x": (dy * w.reshape(c) / np.sqrt(var.reshape(c).astype(D) + 1e-5), TOL),
      "grad_weight": ((dy * xh).sum((0, 2, 3)), TOL), "grad_bias": (dy.astype(D).sum((0, 2, 3)), TOL), "running_mean": mean, "running_var": var})
x, dy, w, b = normal(4, 3, 6), normal(4, 3, 6), normal(6), normal(6)
case("layer_norm", "layer layer_norm eps=1e-5", {"x": x, "weight": w, "bias": b, "grad_y": dy}, normalize(x, dy, w, b, (2,), 1e-5, True, (1, 1, 6))[0])
case("rms_norm", "layer rms_norm eps=1e-6", {"x": x, "weight": w, "grad_y": dy}, normalize(x, dy, w, None, (2,), 1e-6, False, (1, 1, 6))[0])

x, t = normal(6, 5), np.array([0, 4, 2, -7, 1, 2])
z = x.astype(D) - x.max(1, keepdims=True)
logp = z - np.log(np.exp(z).sum(1, keepdims=True))
counts = t != -7
for name, smooth in (("cross_entropy", 0.0), ("cross_entropy_smooth", 0.1)):
    q = np.full((6, 5), smooth / 5)
    q[np.arange(6)[counts], t[counts]] += 1 - smooth
    q[~counts] = 0
    dx = (np.exp(logp) * q.sum(1, keepdims=True) - q) / counts.sum() * 2.0
    case(name, "loss cross_entropy label_smoothing=%g ignore_index=-7" % smooth, {"x": x, "target": t, "grad_y": 2.0},
         {"y": (-(q * logp).sum() / counts.sum(), TOL), "grad_x": (dx, TOL)})

# ---- codes by floor -----------------------------------------------------------------------------------------------------------------

def floors(x, dy, bits, bound, signed=True, axis=None):
    """Half up within +-(2^(b-1) - 1), or the lower edge of 2^b cells; gradient where nothing is clipped."""
    p = F(2 ** (bits - 1) - 1) if signed else F(2**bits - 1)
    n = -p if signed else F(0)
    s = (np.asarray(bound, F) / (p if signed else p + F(1))).astype(F)
    b = s.reshape(per(x.shape, axis))
    u = np.floor(x / b + F(0.5) if signed else x / b)
    code = np.clip(u, n, p) + F(0)
    return {"y": code * b, "codes": code, "scale": s, "grad_x": np.where((u >= n) & (u <= p), dy, F(0))}


x, dy = normal(5, 12), normal(5, 12)
a = {"x": x, "grad_y": dy}
case("aqt_weight", "quant aqt role=weight num_bits=4", a, floors(x, dy, 4, np.abs(x).max(1), axis=0))
case("aqt_two_bits", "quant aqt role=weight num_bits=2 granularity=tensor", a, floors(x, dy, 2, np.abs(x).max()))
case("aqt_ties", "quant aqt num_bits=3 granularity=tensor bound=fixed value=1.5", {"x": np.arange(-9, 10).astype(F) / F(4)},
     floors(np.arange(-9, 10).astype(F) / F(4), np.ones(19, F), 3, F(1.5)))
case("aqt_edges", "quant aqt signed=false num_bits=2 granularity=tensor bound=fixed value=2", {"x": [-1e-9, 0, 0.25, 0.5, 0.75, 1.99999988, 2, 2.5]},
     {"y": [0, 0, 0, 0.5, 0.5, 1.5, 1.5, 1.5], "codes": [0, 0, 0, 1, 1, 3, 3, 3], "grad_x": [0, 1, 1, 1, 1, 1, 0, 0]})
x = np.maximum(x, F(0))
case("aqt_batch", "quant aqt signed=false num_bits=4 granularity=tensor bound=max", {"x": x, "grad_y": dy}, floors(x, dy, 4, x.max(), signed=False))
case("aqt_given", "quant aqt signed=false num_bits=3 granularity=channel axis=1 bound=fixed", {"x": x, "grad_y": dy, "bound": np.abs(x[0]) + F(0.1), "batches": 1},
     floors(x, dy, 3, np.abs(x[0]) + F(0.1), signed=False, axis=1))

# ---- a table of steps and offsets ----------------------------------------------------------------------------------------------------

def elastic(x, dy, s, bits, signed=True, axis=None, offset=None, inputs=1):
    """One entry: the step that is used is s + 1e-6, g is 1/sqrt(p N), with a step a channel 2/sqrt(p N/inputs)."""
    p = float(bounds(bits, signed)[1])
    g = 1 / np.sqrt(p * x.size) if axis is None else 2 / np.sqrt(p * x.size / inputs)
    return lsq(x, dy, np.asarray(s, F) + F(1e-6), bits, signed, axis, g, offset)


def elastic_start(v, bits, signed, symmetric):
    """Of 80 ranges f [lo, hi], f = 1.00, 0.99 .. 0.21, that of the least sum |v - y|^2.4: its step and offset."""
    n, p = bounds(bits, signed)
    best = None
    for i in range(80):
        lo, hi = (e * F(100 - i) / F(100) for e in (v.min(), v.max()))
        top = max(-lo, hi)
        s = ((F(2) * top if signed else top) if symmetric else hi - lo) / (p - n)
        o = F(0) if symmetric else lo - n * s
        e = s + F(1e-6)
        y = np.clip(np.rint((v - o) / e), n, p) * e + o
        error = (np.abs((y - v).astype(np.float64)) ** 2.4).sum()
        if best is None or error < best[0]:
            best = (error, s, o)
    return best[1:]


x, dy, s, o = normal(6, 4, 3), normal(6, 4, 3), np.array([0.3, 0.11, 0.5, 0.7, 0.2, 0.4], F), np.array([-0.3, 0.1, 0.2, 0, 0.4, -0.1], F)
a = {"x": x, "grad_y": dy}
case("elastic_tensor", "quant elastic num_bits=4 symmetry=symmetric role=weight granularity=tensor", {**a, "scale": 0.35}, elastic(x, dy, 0.35, 4))
case("elastic_channel", "quant elastic num_bits=2 symmetry=symmetric role=weight granularity=channel", {**a, "scale": s},
     elastic(x, dy, s, 2, axis=0, inputs=4))
case("elastic_offset", "quant elastic num_bits=3 symmetry=asymmetric role=weight granularity=channel", {**a, "scale": s, "offset": o},
     elastic(x, dy, s, 3, axis=0, offset=o, inputs=4))
r = elastic(x, dy, 0.35, 4)
table = np.array([0.35, *s, 0.2, *s[::-1], 0.7, *s, 0.3, *s[::-1]], F)  # 4 bits: symmetric, asymmetric; 2 bits: the same; each a tensor, then channels
r["grad_scale"] = (np.concatenate([r["grad_scale"][0], np.zeros(table.size - 1)]), 2e-6)
r["grad_offset"] = np.zeros(14)
case("elastic_table", "quant elastic num_bits=[4,2] role=weight", {**a, "scale": table}, r)
v = np.abs(x)
case("elastic_unsigned", "quant elastic num_bits=2 symmetry=symmetric", {"x": v, "grad_y": dy, "scale": 0.6, "unsigned": 1}, elastic(v, dy, 0.6, 2, False))
for name, bits, symmetric, given in (("signed", 3, True, x), ("unsigned", 4, True, v), ("offset", 2, False, x), ("unsigned_offset", 3, False, v + F(0.5))):
    s0, o0 = elastic_start(given, bits, given is x, symmetric)
    r = elastic(given, dy, s0, bits, given is x, offset=None if symmetric else o0)
    case("elastic_start_" + name, f"quant elastic num_bits={bits} symmetry={'symmetric' if symmetric else 'asymmetric'}", {"x": given, "grad_y": dy}, r)

# ---- codebooks -----------------------------------------------------------------------------------------------------------------------

def lloyd(x, dy, bits, turns, axis=None):
    """Levels from the quantiles of u = x / largest |x|, then so many turns; the level below a border wins on it."""
    s = np.abs(x).max(axis=None if axis is None else tuple(i for i in range(x.ndim) if i != axis)).astype(F)
    u = (x / s.reshape(per(x.shape, axis))).astype(F)
    n, v = 2**bits, np.sort(u.ravel())
    level = np.array([v[int((i + 0.5) / n * v.size)] for i in range(n)], F)
    for k in range(turns + 1):
        code = (u[..., None] > ((level[:-1] + level[1:]) / F(2))).sum(-1)
        if k < turns:
            level = np.array([u[code == i].astype(np.float64).mean() if (code == i).any() else level[i] for i in range(n)]).astype(F)
    return {"y": (level[code] * s.reshape(per(x.shape, axis)), 1e-6), "codes": code, "scale": s, "grad_x": dy}


x, dy = normal(6, 20), normal(6, 20)
case("kmeans_tensor", "quant kmeans role=weight num_bits=2 iterations=20", {"x": x, "grad_y": dy}, lloyd(x, dy, 2, 20))
case("kmeans_channel", "quant kmeans role=weight num_bits=4 iterations=7 granularity=channel", {"x": x, "grad_y": dy}, lloyd(x, dy, 4, 7, 0))

# ---- double rounding ---------------------------------------------------------------------------------------------------------------

rng = np.random.default_rng(20250201)

def double_rounding(x, dy, s, high, low, floor=False, axis=None):
    """Integers of `high` bits, shifted as integers; the gradient is that of the step s 2^D, times 2^D."""
    D = high - low
    n, p = bounds(high)
    stored = np.clip(np.rint(x / np.asarray(s, F).reshape(per(x.shape, axis))), n, p).astype(np.int64)
    n, p = (int(v) for v in bounds(low))
    code = np.clip((stored + (0 if floor or not D else 1 << (D - 1))) >> D, n, p)
    out = lsq(x, dy, np.asarray(s, F) * F(2**D), low, True, axis, 2.0**D)
    out["grad_scale"] = (out["grad_scale"][0], TOL)  # terms of both signs, most of which cancel
    step = (np.asarray(s, F) * F(2**D)).reshape(per(x.shape, axis))
    out["y"], out["codes"], out["scale"] = code.astype(F) * step, code.astype(F), np.atleast_1d(np.asarray(s, F) * F(2**D))
    return out


x = np.concatenate([np.arange(-140, 140, dtype=F) * F(0.01), normal(40), np.array([0.0, -0.0, 1e-40, 100, -100], F)])
dy = normal(x.size)
for low in (8, 6, 4, 2):
    for mode in ("double", "floor"):
        case("double_rounding_%d_%s" % (low, mode), "quant double_rounding bits=[8,6,4,2] mode=%s at_bits=%d role=weight" % (mode, low),
             {"x": x, "scale": 0.01, "grad_y": dy}, double_rounding(x, dy, F(0.01), 8, low, mode == "floor"))
x, dy, s = normal(4, 9), normal(4, 9), np.array([0.03, 0.011, 0.05, 0.017], F)
case("double_rounding_channel", "quant double_rounding bits=[6,3] granularity=channel at_bits=3 role=weight", {"x": x, "scale": s, "grad_y": dy},
     double_rounding(x, dy, s, 6, 3, axis=0))
x, dy, s = np.abs(normal(50)), normal(50), np.array([[0.01], [0.3]], F)
r = lsq(x, dy, F(0.3), 2, False)
r["grad_scale"] = (np.array([[0], r["grad_scale"][0]], object).astype(float), 2e-6)
case("lsq_of_two", "quant lsq num_bits=[8,2] signed=false grad_scale=none at_bits=2", {"x": x, "scale": s, "grad_y": dy}, r)
r = lsq(x, dy, F(np.exp(np.float64(F(-2.5)))), 3, False)
r["grad_scale"] = (r["grad_scale"][0] * np.exp(-2.5), 2e-6)
case("lsq_log", "quant lsq num_bits=3 signed=false grad_scale=none log_scale=true", {"x": x, "scale": -2.5, "grad_y": dy}, r)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.txt"), "w") as f:
    f.write("\n".join(lines) + "\n")
print(sum(l.startswith("case") for l in lines), "cases")
