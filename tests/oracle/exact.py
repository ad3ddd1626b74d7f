"""The arithmetic of llama.cpp on a CPU with AVX2 and FMA, to the last bit, for llama and bitnet models with TQ1_0, TQ2_0, Q4_0 or Q8_0 weights and F16
embeddings: a specification that runs. check.py holds it against llama.cpp. Every rounding happens where llama.cpp has it, so that none of
them falls the other way: all positions of a window agree, not only most.

  - sums of squares in double; scale 1/sqrtf(mean + eps); x scale, then times the weight
  - a ternary product: 16 sums of the products (code + 1) q over neighbours, minus the 16 sums of 16 neighbouring q each, added in pairs to 8
    lanes, which are exact; then acc = fma(lane, d_w d_x, acc) block after block, and the 8 lanes are added
  - a Q8_0 product: the same with 8 sums over 4 neighbours. Q4_0: with one sum, that of the whole block
  - an F16 product of two or more tokens: 8 lanes, fma along the row, lanes added. Of one token: 4 times 8 lanes, added crosswise
  - 8 lanes are added as halves, halves of those, and the last two. (Of one token: halves, then neighbours.)
  - rotary angles by repeated multiplication in float32; the first of a pair fma(x0, cos, -(x1 sin))
  - exp by range reduction and a polynomial (`expf`); softmax divides by multiplying with the reciprocal of a sum in double
  - an adapter adds (B (A x)) (alpha/r), its products in float32
  - silu(x) = x / (1 + exp(-x)), times up
"""
import ctypes

import numpy as np

f16, f32, f64 = np.float16, np.float32, np.float64
libm = ctypes.CDLL("libm.so.6")
for name in ("cosf", "sinf"):
    getattr(libm, name).restype, getattr(libm, name).argtypes = ctypes.c_float, [ctypes.c_float]


def half(x):
    return x.astype(f16).astype(f32)


def fma(a, b, c):
    return (f64(a) * f64(b) + f64(c)).astype(f32)


def expf(x):
    h = lambda s: f32(float.fromhex(s))
    x = np.maximum(x.astype(f32), f32(-1e4))  # instead of -inf; both give 0
    shift = h("0x1.8p23")
    n = (fma(x, h("0x1.715476p+0"), shift) - shift).astype(f32)
    b = fma(-n, h("0x1.7f7d1cp-20"), fma(-n, h("0x1.62e4p-1"), x))
    k, u = np.ldexp(f32(1), np.clip(n, -126, 126).astype(int)).astype(f32), b * b
    low, high = fma(h("0x1.0e4020p-7"), b, h("0x1.573e2ep-5")), fma(h("0x1.555e66p-3"), b, h("0x1.fffdb6p-2"))
    return np.where(n < -126, f32(0), fma(fma(fma(low, u, high), u, h("0x1.ffffecp-1") * b), k, k))


def add_lanes(x):
    r = x[..., 4:] + x[..., :4]
    r = r[..., :2] + r[..., 2:]
    return r[..., 0] + r[..., 1]


def ternary_product(code, dw, x):
    """codes [N,K] and their scales [N,K/256], x [T,K]"""
    T, K = x.shape
    blocks = K // 256
    b = x.reshape(T, blocks, 256)
    t = f32(-127) / np.take_along_axis(b, np.abs(b).argmax(2)[..., None], 2)
    q, dx = np.minimum(127, np.rint(t * b)).astype(np.int64), (f32(1) / t)[..., 0]
    lanes = np.einsum("nbhlip,tbhlip->tnbi", code.reshape(-1, blocks, 2, 4, 16, 2) + 1, q.reshape(T, blocks, 2, 4, 16, 2))
    lanes = lanes - q.reshape(T, blocks, 16, 16).sum(3)[:, None]
    lanes = lanes.reshape(*lanes.shape[:3], 8, 2).sum(4).astype(f32)
    acc = np.zeros(lanes.shape[:2] + (8,), f32)
    for i in range(blocks):
        acc = fma(lanes[:, :, i], (dx[:, None, i] * dw[None, :, i])[..., None], acc)
    return add_lanes(acc)


def small_product(code, dw, x, lanes):
    """codes [N,K] and their scales [N,K/32], x [T,K]; 8 lanes or 1"""
    T, K = x.shape
    b = x.reshape(T, -1, 32)
    m = np.abs(b).max(2, keepdims=True)
    q, dx = np.rint(b * (f32(127) / m)).astype(np.int64), half(m / f32(127))[..., 0]
    sums = np.einsum("nblk,tblk->tnbl", code.reshape(-1, K // 32, lanes, 32 // lanes), q.reshape(T, -1, lanes, 32 // lanes)).astype(f32)
    acc = np.zeros(sums.shape[:2] + (lanes,), f32)
    for i in range(K // 32):
        acc = fma(sums[:, :, i], (dx[:, None, i] * dw[None, :, i])[..., None], acc)
    return add_lanes(acc) if lanes == 8 else acc[..., 0]


def half_product(w, x):
    """w [N,K] and x [T,K], numbers of half precision"""
    lines = 1 if len(x) > 1 else 4
    w, x = w.reshape(len(w), -1, lines, 8), x.reshape(len(x), -1, lines, 8)
    acc = np.zeros((len(x), len(w), lines, 8), f32)
    for i in range(w.shape[1]):
        acc = fma(x[:, None, i], w[None, :, i], acc)
    if lines == 1:
        return add_lanes(acc[:, :, 0])
    acc = (acc[:, :, 0] + acc[:, :, 2]) + (acc[:, :, 1] + acc[:, :, 3])
    acc = acc[..., :4] + acc[..., 4:]
    return (acc[..., 0] + acc[..., 1]) + (acc[..., 2] + acc[..., 3])


def float_product(w, x):
    """w [N,K] and x [T,K] in float32: as half_product where K is whole lanes, else one sum of rounded products"""
    K = x.shape[1]
    if K % (8 if len(x) > 1 else 32) == 0:
        return half_product(w, x)
    assert K < 32
    y = np.zeros((len(x), len(w)), f32)
    for i in range(K):
        y = y + x[:, None, i] * w[None, :, i]
    return y


def rotate(x, base, pairs):  # [T, heads, D]; neighbours are a pair, or halves are
    T, _, D = x.shape
    angle = np.empty((T, D // 2), f32)
    angle[:, 0] = np.arange(T)
    for i in range(1, D // 2):
        angle[:, i] = angle[:, i - 1] * np.power(f32(base), f32(-2) / f32(D))
    c, s = (np.array([[f(float(a)) for a in row] for row in angle], f32)[:, None] for f in (libm.cosf, libm.sinf))
    first, second = (slice(0, D, 2), slice(1, D, 2)) if pairs else (slice(0, D // 2), slice(D // 2, D))
    y, x0, x1 = np.empty_like(x), x[..., first], x[..., second]
    y[..., first], y[..., second] = fma(x0, c, -(x1 * s)), fma(x0, s, x1 * c)
    return y


def forward(key, tensors, windows, lora={}):
    arch = key["general.architecture"]
    k = lambda name: key[arch + "." + name]
    heads, kv, eps = k("attention.head_count"), k("attention.head_count_kv"), f32(k("attention.layer_norm_rms_epsilon"))

    def product(name, x):
        y = base_product(name, x)
        if name + ".weight" in lora:
            a, b, s = lora[name + ".weight"]
            y = y + float_product(b, float_product(a, x)) * s
        return y

    def base_product(name, x):
        w, kind, d = tensors[name + ".weight"]
        if kind == 1:
            return half_product(w, half(x))
        code = np.rint(w.reshape(*d.shape, -1) / d[..., None]).astype(np.int64).reshape(w.shape)
        return ternary_product(code, d, x) if kind in (34, 35) else small_product(code, d, x, 8 if kind == 8 else 1)

    def norm(name, x):
        mean = ((x * x).astype(f64).sum(1, keepdims=True) / x.shape[1]).astype(f32)
        return x * (f32(1) / np.sqrt(mean + eps)) * tensors[name + ".weight"][0]

    def attention(p, x):
        T = len(x)
        q, ke, v = (product(p + n, x).reshape(T, h, -1) for n, h in (("attn_q", heads), ("attn_k", kv), ("attn_v", kv)))
        q, ke, v = (half(y) for y in (*(rotate(y, k("rope.freq_base"), arch == "llama") for y in (q, ke)), v))
        D, out = q.shape[2], np.empty_like(q)
        rows = (T + 255) // 256 * 256  # of the cache; those behind the last token are masked
        mask = np.arange(rows)[None] <= np.arange(T)[:, None]
        for h in range(heads):
            K, V = np.zeros((rows, D), f32), np.zeros((D, rows), f32)
            K[:T], V[:, :T] = ke[:, h * kv // heads], v[:, h * kv // heads].T
            s = np.where(mask, half_product(K, q[:, h]) * (f32(1) / np.sqrt(f32(D))), f32(-np.inf))
            e = np.where(mask, expf(s - s.max(1, keepdims=True)), f32(0))
            total = add_lanes(e.reshape(T, -1, 8)).astype(f64).sum(1, keepdims=True)
            out[:, h] = half_product(V, half(e * (1 / total).astype(f32)))
        y = out.reshape(T, -1)
        return product(p + "attn_output", norm(p + "attn_sub_norm", y) if arch == "bitnet" else y)

    def feed_forward(p, x):
        gate = product(p + "ffn_gate", x)
        y = gate / (f32(1) + expf(-gate)) * product(p + "ffn_up", x)
        return product(p + "ffn_down", norm(p + "ffn_sub_norm", y) if arch == "bitnet" else y)

    out = []
    for tokens in windows:
        x = tensors["token_embd.weight"][0][tokens]
        for i in range(k("block_count")):
            p = "blk.%d." % i
            x = x + attention(p, norm(p + "attn_norm", x))
            x = x + feed_forward(p, norm(p + "ffn_norm", x))
        z = product("output" if "output.weight" in tensors else "token_embd", norm("output_norm", x)).astype(f64)
        z -= z.max(1, keepdims=True)
        out.append(z - np.log(np.exp(z).sum(1, keepdims=True)))
    return np.concatenate(out)
