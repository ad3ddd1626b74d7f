"""The oracle of the oracle: the forward pass of a llama or bitnet model, written down with numpy alone, against llama.cpp on small random models.

    tests/oracle/check.py build/oracle_tiny        needs numpy; exit code 77 where there is no llama.cpp (llama.sh says why)

It states what llama.cpp computes, and so what training must compute to be equal to it:
  - RMS norm in float32; rotary embedding of the pairs (2i, 2i+1) for llama, (i, i + d/2) for bitnet; SwiGLU
  - a product with block weights takes the block's numbers and x rounded to Q8_K (TQ1_0, TQ2_0) or to Q8_0 (the others); with F16 weights x is
    rounded to half precision; with F32 weights it is not rounded
  - keys, values, queries and probabilities of attention are rounded to half precision (with --kv f32 they are not)
  - an adapter adds alpha/r B (A x), of x before rounding

Where nothing is rounded, the two agree to a few units of float32's last place at every position. Where something is, two sums in another order
now and then fall on two sides of a rounding bound: a code of an activation differs by one, or a key in its last half-precision bit, and from there
on the positions of this window differ by as much as that moves them. In these random models that is a lot. So of models with rounding the
windows are short, and it is the median position that must agree. That this is all there is to it shows exact.py, which adds in llama.cpp's order:
with it all positions of long windows agree.
"""
import ctypes
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

import exact

f32, f16 = np.float32, np.float16
here = os.path.dirname(os.path.abspath(__file__))
LIMIT = 1e-5
BLOCKS = {2: ("q4_0", 32, 18), 8: ("q8_0", 32, 34), 34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66), 41: ("q1_0", 128, 18), 42: ("q2_0", 64, 18)}


def oracle(*args):
    run = subprocess.run([os.path.join(here, "llama.sh"), *args], capture_output=True, text=True)
    if run.returncode:
        sys.stderr.write(run.stderr)
        sys.exit(run.returncode)
    return run.stdout.strip()


def read_gguf(file, base):
    """keys that are numbers or strings, and tensors as (numbers, type, scales of the blocks of each row)"""
    data, at = open(file, "rb").read(), 4

    def take(fmt):
        nonlocal at
        v = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return v[0]

    def string():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n : at].decode("utf-8")

    def value(t):
        if t == 8:
            return string()
        if t == 9:
            of, n = take("I"), take("Q")
            return [value(of) for _ in range(n)]
        return take("BbHhIifB__QqQd"[t] if t < 8 else {10: "Q", 11: "q", 12: "d"}[t])

    take("I")
    tensors, keys = take("Q"), take("Q")
    key = {}
    for _ in range(keys):
        name = string()
        key[name] = value(take("I"))
    infos = []
    for _ in range(tensors):
        name = string()
        dim = [take("Q") for _ in range(take("I"))]
        infos.append((name, dim, take("I"), take("Q")))
    start = (at + 31) // 32 * 32
    out = {}
    for name, dim, kind, offset in infos:
        n, shape, p = int(np.prod(dim)), dim[::-1], start + offset
        if kind < 2:
            x, d = np.frombuffer(data, (f32, f16)[kind], n, p).astype(f32), None
        else:
            low, block, size = BLOCKS[kind]
            raw, x = np.frombuffer(data, np.uint8, n // block * size, p).copy(), np.zeros(n, f32)
            getattr(base, "dequantize_row_" + low)(raw.ctypes.data_as(ctypes.c_void_p), x.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(n))
            at_scale = size - 2 if low[0] == "t" else 0
            d = raw.reshape(-1, size)[:, at_scale : at_scale + 2].copy().view(f16).astype(f32).reshape(shape[0], -1)
        out[name] = (x.reshape(shape), kind, d)
    return key, out


def q8_k(x):
    b = x.reshape(-1, 256)
    m = b[np.arange(len(b)), np.abs(b).argmax(1)][:, None]
    t = f32(-127) / m
    return (np.minimum(127, np.rint(t * b)) * (f32(1) / t)).reshape(x.shape)


def q8_0(x):
    b = x.reshape(-1, 32)
    m = np.abs(b).max(1, keepdims=True)
    return (np.rint(b * (f32(127) / m)) * (m / f32(127)).astype(f16).astype(f32)).reshape(x.shape)


def half(x):
    return x.astype(f16).astype(f32)


def lora_of(adapter):
    """A, B and alpha/r of each weight that an adapter file changes"""
    key, tensors = adapter or ({}, {})
    names = [n[: -len(".lora_a")] for n in tensors if n.endswith(".lora_a")]
    return {n: (tensors[n + ".lora_a"][0], tensors[n + ".lora_b"][0], f32(key["adapter.lora.alpha"] / len(tensors[n + ".lora_a"][0]))) for n in names}


def forward(key, tensors, windows, adapter=None, half=half):
    arch = key["general.architecture"]
    k = lambda name: key[arch + "." + name]
    heads, kv, eps = k("attention.head_count"), k("attention.head_count_kv"), f32(k("attention.layer_norm_rms_epsilon"))
    lora = lora_of(adapter)

    def product(name, x):
        w, kind, _ = tensors[name + ".weight"]
        xr = x if kind == 0 else x.astype(f16).astype(f32) if kind == 1 else q8_k(x) if kind in (34, 35) else q8_0(x)
        y = xr @ w.T
        if name + ".weight" in lora:
            a, b, s = lora[name + ".weight"]
            y = y + s * ((x @ a.T) @ b.T)
        return y

    def norm(name, x):
        return x / np.sqrt((x * x).mean(-1, keepdims=True, dtype=f32) + eps) * tensors[name + ".weight"][0]

    def rope(x):  # [T, heads, D]
        T, _, D = x.shape
        step = np.power(f32(k("rope.freq_base")), f32(-2) / f32(D))
        angle = np.empty((T, D // 2), f32)
        angle[:, 0] = np.arange(T)
        for i in range(1, D // 2):  # one multiplication after the other, in float32
            angle[:, i] = angle[:, i - 1] * step
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        y = np.empty_like(x)
        first, second = (slice(0, D, 2), slice(1, D, 2)) if arch == "llama" else (slice(0, D // 2), slice(D // 2, D))
        y[..., first], y[..., second] = x[..., first] * c - x[..., second] * s, x[..., first] * s + x[..., second] * c
        return y

    def attention(p, x):
        T = len(x)
        q, key_, v = (product(p + n, x).reshape(T, h, -1) for n, h in (("attn_q", heads), ("attn_k", kv), ("attn_v", kv)))
        q, key_, v = half(rope(q)), half(rope(key_)), half(v)
        key_, v = np.repeat(key_, heads // kv, 1), np.repeat(v, heads // kv, 1)
        score = np.einsum("thd,shd->hts", q, key_) / np.sqrt(f32(q.shape[-1]))
        score = np.where(np.tril(np.ones((T, T), bool)), score, -np.inf)
        e = np.exp(score - score.max(-1, keepdims=True))
        y = np.einsum("hts,shd->thd", half(e / e.sum(-1, keepdims=True)), v).reshape(T, -1)
        if arch == "bitnet":
            y = norm(p + "attn_sub_norm", y)
        return product(p + "attn_output", y)

    def feed_forward(p, x):
        g = product(p + "ffn_gate", x)
        y = g / (1 + np.exp(-g)) * product(p + "ffn_up", x)
        if arch == "bitnet":
            y = norm(p + "ffn_sub_norm", y)
        return product(p + "ffn_down", y)

    out = []
    for tokens in windows:
        x = tensors["token_embd.weight"][0][tokens]
        for i in range(k("block_count")):
            p = "blk.%d." % i
            x = x + attention(p, norm(p + "attn_norm", x))
            x = x + feed_forward(p, norm(p + "ffn_norm", x))
        z = product("output" if "output.weight" in tensors else "token_embd", norm("output_norm", x)).astype(np.float64)
        z -= z.max(1, keepdims=True)
        out.append(z - np.log(np.exp(z).sum(1, keepdims=True)))
    return np.concatenate(out)


def check_exact(tiny, base, path, arch, kind, rank, windows):
    with open(path("tokens.txt"), "w") as f:
        f.writelines(" ".join(map(str, v)) + "\n" for v in windows)
    subprocess.run([tiny, path("m.gguf"), arch, kind], check=True)
    if rank:
        subprocess.run([tiny, path("a.gguf"), "lora", str(rank)], check=True)
    oracle(path("m.gguf"), path("tokens.txt"), path("out.npy"), *(["--lora", path("a.gguf")] if rank else []))
    lora = lora_of(read_gguf(path("a.gguf"), base)) if rank else {}
    d = np.abs(exact.forward(*read_gguf(path("m.gguf"), base), windows, lora) - np.load(path("out.npy"))).max()
    print("%-6s %-5s %-9s in llama.cpp's order, long windows: |d log p| largest %.1e   %s" % (arch, kind, "+ lora %d" % rank if rank else "", d, "FAILED" if d > LIMIT else "ok"))
    return d > LIMIT


def main():
    tiny = os.path.abspath(sys.argv[1])
    base = ctypes.CDLL(os.path.join(oracle("--dir"), "libggml-base.so"))
    rng, failed = np.random.default_rng(1), False
    windows = {"long": [rng.integers(0, 257, n) for n in (60, 1, 17)], "short": [rng.integers(0, 257, 3) for _ in range(40)]}
    cases = [("llama", "F32", None, "f32"), ("llama", "F32", 4, "f32"), ("bitnet", "F32", None, "f32"), ("llama", "F32", None, "f16")]
    cases += [("llama", t, None, "f16") for t in ("TQ2_0", "TQ1_0", "Q4_0", "Q8_0", "Q2_0", "Q1_0")]
    cases += [("bitnet", "TQ2_0", None, "f16"), ("llama", "TQ2_0", 4, "f16")]
    with tempfile.TemporaryDirectory() as tmp:
        path = lambda name: os.path.join(tmp, name)
        for arch, kind, rank, kv in cases:
            exact = kind == "F32" and kv == "f32"
            w = windows["long" if exact else "short"]
            with open(path("tokens.txt"), "w") as f:
                f.writelines(" ".join(map(str, v)) + "\n" for v in w)
            subprocess.run([tiny, path("m.gguf"), arch, kind], check=True)
            more, adapter = ["--kv", "f32"] if kv == "f32" else [], None
            if rank:
                subprocess.run([tiny, path("a.gguf"), "lora", str(rank)], check=True)
                more, adapter = more + ["--lora", path("a.gguf")], read_gguf(path("a.gguf"), base)
            oracle(path("m.gguf"), path("tokens.txt"), path("out.npy"), *more)
            mine = forward(*read_gguf(path("m.gguf"), base), w, adapter, (lambda x: x) if kv == "f32" else half)
            d = np.abs(mine - np.load(path("out.npy"))).max(1)
            bad = (d.max() if exact else np.median(d)) > LIMIT
            failed |= bad
            print("%-6s %-5s %-6s cache %s   |d log p| median %.1e, largest %.1e   %s"
                  % (arch, kind, "+ lora" if rank else "", kv, np.median(d), d.max(), "FAILED" if bad else "ok"))
        cases = [("llama", t, 0) for t in ("TQ2_0", "TQ1_0", "Q4_0", "Q8_0")] + [("bitnet", "TQ2_0", 0), ("llama", "TQ2_0", 4), ("llama", "TQ2_0", 8)]
        for arch, kind, rank in cases:
            failed |= check_exact(tiny, base, path, arch, kind, rank, [rng.integers(0, 257, n) for n in (60, 60, 60, 1, 2, 17)])
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
