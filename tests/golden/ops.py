"""Golden values of the operations: writes ops.h beside it. Every result is computed here from the definition with numpy in double
precision, by loops where the operation is more than a formula; nothing is taken from qtape.

    python3 tests/golden/ops.py
"""
import math
import os
import zlib

import numpy as np

out = []


def draw(name, *dim, kind="n"):
    r = np.random.default_rng(zlib.crc32(name.encode()))
    x = r.uniform(0.5, 2, dim) if kind == "p" else r.normal(size=dim)
    return np.round(x * 64) / 64  # exact in float too


def numbers(x):
    return ", ".join(repr(float(v)) if np.isfinite(v) else ("NAN" if np.isnan(v) else "INFINITY" if v > 0 else "-INFINITY") for v in np.asarray(x).ravel())


def golden(op, call, inputs, y):
    """call: C expression over t, in; inputs: arrays, of integers for ids; y: the expected result"""
    k = len(out)
    y = np.atleast_1d(np.asarray(y, dtype=float))
    text = f"static qt_tensor *build_{k}(qt_tape *t, qt_tensor **in) {{ return {call}; }}\n"
    fields = []
    for x in list(inputs) + [y]:
        dim = ", ".join(str(d) for d in x.shape)
        ids = "true" if x.dtype.kind == "i" else "false"
        fields.append(f"{{{x.ndim}, {{{dim}}}, {ids}, (const double[]){{{numbers(x)}}}}}")
    row = f'    {{"{op}", build_{k}, {len(inputs)}, {{{", ".join(fields[:-1])}}},\n     {fields[-1]}}},\n'
    out.append((text, row))


erf = np.vectorize(math.erf)
x = draw("x", 3, 4)
line = np.array([-3.0, -1.0, -0.25, 0.0, 0.25, 1.0, 3.0, 8.0, -8.0])

# activations and elementary functions
golden("relu", "qt_relu(t, in[0])", [line], np.maximum(line, 0))
golden("relu2", "qt_relu2(t, in[0])", [line], np.maximum(line, 0) ** 2)
golden("leaky_relu", "qt_leaky_relu(t, in[0], 0.25)", [line], [v if v > 0 else v / 4 for v in line])
golden("gelu", "qt_gelu(t, in[0])", [line], [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in line])
golden("gelu_tanh", "qt_gelu_tanh(t, in[0])", [line], [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in line])
golden("silu", "qt_silu(t, in[0])", [line], line / (1 + np.exp(-line)))
golden("sigmoid", "qt_sigmoid(t, in[0])", [line], 1 / (1 + np.exp(-line)))
golden("tanh", "qt_tanh(t, in[0])", [line], np.tanh(line))
golden("scale", "qt_scale(t, in[0], -2.5)", [line], line * -2.5)
golden("exp", "qt_exp(t, in[0])", [line], np.exp(line))
p = draw("p", 7, kind="p")
golden("log", "qt_log(t, in[0])", [p], np.log(p))
golden("sqrt", "qt_sqrt(t, in[0])", [p], np.sqrt(p))
golden("abs", "qt_abs(t, in[0])", [line], np.abs(line))
golden("clamp", "qt_clamp(t, in[0], -1, 0.5)", [line], np.clip(line, -1, 0.5))
for op in ("relu", "relu2", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "scale", "exp", "log", "sqrt", "abs", "clamp"):
    args = {"leaky_relu": ", 0.5", "scale": ", 2", "clamp": ", -1, 1"}.get(op, "")
    golden(op, f"qt_{op}(t, in[0]{args})", [np.array([np.nan])], [np.nan])

# softmax and losses
def log_softmax(v):
    v = v - v.max(axis=-1, keepdims=True)
    return v - np.log(np.exp(v).sum(axis=-1, keepdims=True))

golden("softmax", "qt_softmax(t, in[0])", [x], np.exp(log_softmax(x)))
golden("softmax", "qt_softmax(t, in[0])", [np.array([1000.0, 999.0, -1000.0])], [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0])
golden("log_softmax", "qt_log_softmax(t, in[0])", [x], log_softmax(x))
wide = draw("wide", 2, 37) * 5
golden("log_softmax", "qt_log_softmax(t, in[0])", [wide], log_softmax(wide))

def cross_entropy(v, ids, smoothing=0.0, ignore=-100):
    total, n, K = 0.0, 0, v.shape[-1]
    for row, i in zip(log_softmax(v).reshape(-1, K), ids.ravel()):
        if i == ignore:
            continue
        q = np.full(K, smoothing / K)
        q[i] += 1 - smoothing
        total, n = total - (q * row).sum(), n + 1
    return [total / n if n else 0.0]

ids = np.array([2, 0, 3])
golden("cross_entropy", "qt_cross_entropy(t, in[0], in[1], 0, -100)", [x, ids], cross_entropy(x, ids))
golden("cross_entropy", "qt_cross_entropy(t, in[0], in[1], 0.1, -100)", [x, ids], cross_entropy(x, ids, 0.1))
golden("cross_entropy", "qt_cross_entropy(t, in[0], in[1], 0.3, 0)", [x, ids], cross_entropy(x, ids, 0.3, 0))
golden("cross_entropy", "qt_cross_entropy(t, in[0], in[1], 0, 5)", [x, np.array([5, 5, 5])], [0.0])
golden("cross_entropy", "qt_cross_entropy(t, in[0], in[1], 0, -100)", [np.array([[300.0, -300.0]]), np.array([1])], [600.0])
tokens = draw("tokens", 2, 3, 5)
golden("cross_entropy", "qt_cross_entropy(t, in[0], in[1], 0, -1)", [tokens, np.array([[1, -1, 4], [0, 2, -1]])],
       cross_entropy(tokens, np.array([[1, -1, 4], [0, 2, -1]]), 0, -1))
u = draw("u", 3, 4)
golden("mse", "qt_mse(t, in[0], in[1])", [x, u], [((x - u) ** 2).mean()])
golden("l1", "qt_l1(t, in[0], in[1])", [x, u], [np.abs(x - u).mean()])
q = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
lp = np.log(np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]))
golden("kl", "qt_kl(t, in[0], in[1])", [lp, q], [(0.5 * math.log(2) + 0.25 * math.log(0.5) + math.log(4)) / 2])
for k in (2, 3, 4):
    h = (x - x.mean()) / x.std(ddof=1)
    golden("moment", f"qt_moment(t, in[0], {k})", [x], (h**k).mean())
golden("moment", "qt_moment(t, in[0], 4)", [np.full((2, 3), 1.5)], 0)

# normalization
w, b = draw("w", 4), draw("b", 4)
mu, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
golden("layer_norm", "qt_layer_norm(t, in[0], in[1], in[2], 1e-5)", [x, w, b], (x - mu) / np.sqrt(var + 1e-5) * w + b)
golden("layer_norm", "qt_layer_norm(t, in[0], NULL, NULL, 0.5)", [x], (x - mu) / np.sqrt(var + 0.5))
rms = np.sqrt((x**2).mean(-1, keepdims=True) + 1e-2)
golden("rms_norm", "qt_rms_norm(t, in[0], in[1], 1e-2)", [x, w], x / rms * w)
golden("rms_norm", "qt_rms_norm(t, in[0], NULL, 1e-2)", [x], x / rms)
m, v = draw("m", 4), draw("v", 4, kind="p")
golden("batch_norm", "qt_batch_norm(t, in[0], in[1], in[2], in[3], in[4], true, 0.1, 1e-5)", [x, w, b, m, v],
       (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * w + b)
golden("batch_norm", "qt_batch_norm(t, in[0], in[1], in[2], in[3], in[4], false, 0.1, 1e-5)", [x, w, b, m, v], (x - m) / np.sqrt(v + 1e-5) * w + b)
im = draw("im", 2, 3, 4, 5)
ch = (1, 3, 1, 1)
golden("batch_norm", "qt_batch_norm(t, in[0], NULL, in[1], in[2], in[3], true, 0.1, 1e-3)", [im, b[:3], m[:3], v[:3]],
       (im - im.mean((0, 2, 3)).reshape(ch)) / np.sqrt(im.var((0, 2, 3)).reshape(ch) + 1e-3) + b[:3].reshape(ch))


def l1(x, axes, eps, *own):
    """x by the mean absolute deviation over the axes, or by the mean and deviation given"""
    mean = own[0] if own else x.mean(axes, keepdims=True)
    sigma = own[1] if own else np.abs(x - mean).mean(axes, keepdims=True)
    return (x - mean) / (sigma + eps)

golden("l1_layer_norm", "qt_l1_layer_norm(t, in[0], in[1], in[2], 1e-5)", [x, w, b], l1(x, -1, 1e-5) * w + b)
golden("l1_layer_norm", "qt_l1_layer_norm(t, in[0], NULL, NULL, 0.5)", [x], l1(x, -1, 0.5))
golden("l1_batch_norm", "qt_l1_batch_norm(t, in[0], in[1], in[2], in[3], in[4], true, 0.1, 1e-5)", [x, w, b, m, v], l1(x, 0, 1e-5) * w + b)
golden("l1_batch_norm", "qt_l1_batch_norm(t, in[0], in[1], in[2], in[3], in[4], false, 0.1, 1e-5)", [x, w, b, m, v], l1(x, 0, 1e-5, m, v) * w + b)
golden("l1_batch_norm", "qt_l1_batch_norm(t, in[0], NULL, in[1], in[2], in[3], true, 0.1, 1e-3)", [im, b[:3], m[:3], v[:3]],
       l1(im, (0, 2, 3), 1e-3) + b[:3].reshape(ch))

# arithmetic
d = draw("d", 3, 4, kind="p")
for op, f in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}.items():
    golden(op, f"qt_{op}(t, in[0], in[1])", [x, d], f(x, d))
    golden(op, f"qt_{op}(t, in[0], in[1])", [x, d[0]], f(x, d[0]))
    golden(op, f"qt_{op}(t, in[0], in[1])", [x, d[0, :1]], f(x, d[0, 0]))

# transformers
golden("swiglu", "qt_swiglu(t, in[0], in[1])", [line, line[::-1].copy()], line / (1 + np.exp(-line)) * line[::-1])


def rope(x, heads, first, base, interleaved):
    y = np.empty_like(x)
    D = x.shape[-1] // heads
    for at in np.ndindex(x.shape[:-1]):
        for h in range(heads):
            for i in range(D // 2):
                angle = (first + at[-1]) * base ** (-2 * i / D)
                a, b = (h * D + 2 * i, h * D + 2 * i + 1) if interleaved else (h * D + i, h * D + i + D // 2)
                z = (x[at][a] + 1j * x[at][b]) * np.exp(1j * angle)
                y[at][a], y[at][b] = z.real, z.imag
    return y


def attention(q, k, v, heads, kv_heads, causal):
    y = np.empty_like(q)
    Tq, Tk, D = q.shape[1], k.shape[1], q.shape[2] // heads
    for b in range(len(q)):
        for h in range(heads):
            mine, shared = slice(h * D, (h + 1) * D), slice(h * kv_heads // heads * D, (h * kv_heads // heads + 1) * D)
            for i in range(Tq):
                n = Tk - Tq + i + 1 if causal else Tk
                e = np.exp(k[b, :n, shared] @ q[b, i, mine] / math.sqrt(D))
                y[b, i, mine] = e @ v[b, :n, shared] / e.sum()
    return y


tokens = draw("tokens", 2, 3, 8)
golden("rope", "qt_rope(t, in[0], 2, 0, 10000, false)", [tokens], rope(tokens, 2, 0, 10000, False))
golden("rope", "qt_rope(t, in[0], 2, 5, 100, true)", [tokens], rope(tokens, 2, 5, 100, True))
golden("rope", "qt_rope(t, in[0], 1, 40, 10000, false)", [tokens[0]], rope(tokens[0], 1, 40, 10000, False))
golden("rope", "qt_rope(t, in[0], 4, 0, 10000, true)", [tokens[:, 2:].copy()], tokens[:, 2:])
q, k, v = draw("q", 2, 5, 12), draw("k", 2, 5, 12), draw("v", 2, 5, 12)
golden("attention", "qt_attention(t, in[0], in[1], in[2], 3, 3, false, false)", [q, k, v], attention(q, k, v, 3, 3, False))
golden("attention", "qt_attention(t, in[0], in[1], in[2], 2, 2, true, false)", [q, k, v], attention(q, k, v, 2, 2, True))
few = (q[:, :2].copy(), k[:, :, :6].copy(), v[:, :, :6].copy())
golden("attention", "qt_attention(t, in[0], in[1], in[2], 4, 2, true, false)", few, attention(*few, 4, 2, True))
golden("attention", "qt_attention(t, in[0], in[1], in[2], 4, 2, false, false)", few, attention(*few, 4, 2, False))
many = (draw("many q", 1, 37, 4), draw("many k", 1, 53, 2), draw("many v", 1, 53, 2))
golden("attention", "qt_attention(t, in[0], in[1], in[2], 2, 1, true, false)", many, attention(*many, 2, 1, True))
keys, values = draw("kept keys", 2, 64), draw("kept values", 64, 2)  # beyond the first 53 nothing counts
kept = (many[0], keys[None, :, :53].swapaxes(1, 2), values[None, :53])
golden("attention_kept", "qt_attention_kept(t, in[0], in[1], in[2], 53, 2, 1, true, false)", [many[0], keys, values], attention(*kept, 2, 1, True))
last = (many[0][:, -1:].copy(), keys, values)
golden("attention_kept", "qt_attention_kept(t, in[0], in[1], in[2], 53, 2, 1, true, false)", last, attention(last[0], *kept[1:], 2, 1, True))

# shape
s = draw("s", 2, 3, 4)
golden("transpose", "qt_transpose(t, in[0])", [s], s.swapaxes(1, 2))
golden("permute", "qt_permute(t, in[0], (int[]){2, 0, 1})", [s], s.transpose(2, 0, 1))
golden("reshape", "qt_reshape(t, in[0], 2, (int64_t[]){-1, 4})", [s], s.reshape(6, 4))
golden("concat", "qt_concat(t, in[0], in[1], 1)", [s, s[:, :1]], np.concatenate([s, s[:, :1]], 1))
golden("slice", "qt_slice(t, in[0], -2, 1, 3)", [s], s[:, 1:3])
golden("pad", "qt_pad(t, in[0], 2, 1, 2, -1)", [s], np.pad(s, ((0, 0), (0, 0), (1, 2)), constant_values=-1))
golden("embedding", "qt_embedding(t, in[0], in[1])", [x, np.array([[2, 2], [0, 1]])], x[[[2, 2], [0, 1]]])
golden("gather", "qt_gather(t, in[0], in[1])", [s, np.array([1, 0, 1])], s[[1, 0, 1]])
golden("sum", "qt_sum(t, in[0], 1)", [s], s.sum(1))
golden("sum", "qt_sum(t, in[0], -1)", [s], s.sum(-1))
golden("mean", "qt_mean(t, in[0], 0)", [s], s.mean(0))
golden("mean", "qt_mean(t, in[0], 0)", [p], [p.mean()])
golden("dropout", "qt_dropout(t, in[0], 0)", [x], x)

# products and windows
A, B = draw("A", 2, 3, 4), draw("B", 4, 5)
golden("matmul", "qt_matmul(t, in[0], in[1], false, false)", [A, B], A @ B)
golden("matmul", "qt_matmul(t, in[0], in[1], true, true)", [A[0], B[:, :3].copy()], A[0].T @ B[:, :3].T)
W, bias = draw("W", 5, 4), draw("bias", 5)
golden("linear", "qt_linear(t, in[0], in[1], in[2])", [A, W, bias], A @ W.T + bias)
golden("linear", "qt_linear(t, in[0], in[1], NULL)", [A[0], W], A[0] @ W.T)


def conv2d(x, w, b, stride, padding, dilation, groups):
    N, C, H, Wd = x.shape
    O, c, kh, kw = w.shape
    OH, OW = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1, (Wd + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((N, O, OH, OW))
    for n in range(N):
        for o in range(O):
            for i in range(OH):
                for j in range(OW):
                    for k in range(c):
                        for p in range(kh):
                            for q in range(kw):
                                h, v = i * stride - padding + p * dilation, j * stride - padding + q * dilation
                                if 0 <= h < H and 0 <= v < Wd:
                                    y[n, o, i, j] += x[n, o // (O // groups) * c + k, h, v] * w[o, k, p, q]
                    y[n, o, i, j] += 0 if b is None else b[o]
    return y


def pool2d(x, kernel, stride, padding, take):
    N, C, H, Wd = x.shape
    OH, OW = (H + 2 * padding - kernel) // stride + 1, (Wd + 2 * padding - kernel) // stride + 1
    y = np.zeros((N, C, OH, OW))
    for n, c, i, j in np.ndindex(y.shape):
        cells = [x[n, c, h, v] for h in range(i * stride - padding, i * stride - padding + kernel)
                 for v in range(j * stride - padding, j * stride - padding + kernel) if 0 <= h < H and 0 <= v < Wd]
        y[n, c, i, j] = take(cells)
    return y


image, kernel, kb = draw("image", 1, 4, 5, 6), draw("kernel", 6, 2, 3, 2), draw("kb", 6)
golden("conv2d", "qt_conv2d(t, in[0], in[1], in[2], 2, 1, 1, 2)", [image, kernel, kb], conv2d(image, kernel, kb, 2, 1, 1, 2))
k2 = draw("k2", 2, 4, 2, 2)
golden("conv2d", "qt_conv2d(t, in[0], in[1], NULL, 1, 0, 2, 1)", [image, k2], conv2d(image, k2, None, 1, 0, 2, 1))
golden("max_pool2d", "qt_max_pool2d(t, in[0], 3, 2, 1)", [image[:, :2].copy()], pool2d(image[:, :2], 3, 2, 1, max))
golden("avg_pool2d", "qt_avg_pool2d(t, in[0], 2, 2, 0)", [image[:, :2].copy()], pool2d(image[:, :2], 2, 2, 0, np.mean))
golden("global_avg_pool", "qt_global_avg_pool(t, in[0])", [image], image.mean((2, 3)))
golden("wrap", "qt_wrap(t, in[0], 2)", [image[:, :2].copy()], np.pad(image[:, :2], ((0, 0), (0, 0), (2, 2), (2, 2)), mode="wrap"))
pairs = image.reshape(1, 2, 2, 5, 6)
golden("max_min", "qt_max_min(t, in[0])", [image], np.stack([pairs.max(2), pairs.min(2)], 2).reshape(image.shape))
golden("sin", "qt_sin(t, in[0])", [kernel], np.sin(kernel))
mean, var, four = draw("mean4", 4), draw("var4", 4, kind="p"), [draw(n, 4) for n in ("w4", "b4")]
for stats, (m4, v4) in (("true", (image.mean((0, 2, 3)), image.var((0, 2, 3)))), ("false", (mean, var))):
    a4 = four[0] / np.sqrt(v4 + 1e-5)
    golden("norm_affine", f"qt_norm_affine(t, in[0], in[1], in[2], in[3], in[4], {stats}, 0.1, 1e-5)", [image, *four, mean, var],
           np.stack([a4, four[1] - m4 * a4]))
golden("channel_affine", "qt_channel_affine(t, in[0], in[1], in[2])", [image, *four], image * four[0][:, None, None] + four[1][:, None, None])
golden("channel_affine", "qt_channel_affine(t, in[0], in[1], in[2])", [x, w, b], x * w + b)
golden("add_channels", "qt_add_channels(t, in[0], in[1])", [image, four[1]], image + four[1][:, None, None])
golden("prelu", "qt_prelu(t, in[0], in[1])", [image, four[0]], np.where(image > 0, image, image * four[0][:, None, None]))
oh, ov = draw("oh", 5), draw("ov", 6)
golden("output_scale", "qt_output_scale(t, in[0], in[1], in[2], in[3])", [image, four[0], oh, ov], image * four[0][:, None, None] * oh[:, None] * ov)
golden("output_scale", "qt_output_scale(t, in[0], in[1], NULL, NULL)", [x, w], x * w)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ops.h"), "w") as f:
    f.write("/* Made by ops.py beside this file: operations with their expected results. */\n")
    f.write("".join(text for text, _ in out))
    f.write("static const golden goldens[] = {\n" + "".join(row for _, row in out) + "};\n")
