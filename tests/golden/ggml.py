"""Golden blocks of ggml: writes ggml.h beside it. The bytes and what they stand for come from the real library, loaded from the folder of
shared libraries of the npm package @node-llama-cpp/linux-x64; the activation quantizers are also written down here with numpy, from their
formulas, and must agree.

    python3 tests/golden/ggml.py node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
"""
import ctypes
import os
import sys

import numpy as np

base = ctypes.CDLL(os.path.join(sys.argv[1], "libggml-base.so"))
avx = ctypes.CDLL(os.path.join(sys.argv[1], "libggml-cpu-haswell.so"))
rng = np.random.default_rng(21112026)
f32 = np.float32


def call(f, source, target):
    f(source.ctypes.data_as(ctypes.c_void_p), target.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(n_of(source, target)))
    return target


def n_of(source, target):
    return source.size if source.dtype == f32 else target.size


def array(kind, name, v, fmt):
    body = ", ".join(fmt % x for x in v.ravel().tolist())
    lines, line = [], ""
    for word in body.split(" "):
        if len(line) + len(word) > 140:
            lines.append(line.rstrip())
            line = ""
        line += word + " "
    lines.append(line.rstrip())
    out.append("static const %s %s[] = {\n    %s};" % (kind, name, "\n    ".join(lines)))


out = ["/* Blocks of ggml, and what they stand for: made by tests/golden/ggml.py. */", "#include <stdint.h>", ""]

# ---- block types: two blocks each, one of what ggml's own quantizer gives, one with a negative or tiny scale
for name, block, size, at in [("q8_0", 32, 34, 0), ("q4_0", 32, 18, 0), ("q2_0", 64, 18, 0), ("q1_0", 128, 18, 0), ("tq2_0", 256, 66, 64), ("tq1_0", 256, 54, 52)]:
    x = (rng.normal(size=2 * block) * 0.1).astype(f32)
    blocks = call(getattr(base, "quantize_row_%s_ref" % name), x, np.zeros(2 * size, np.uint8))
    blocks[size + at : size + at + 2] = np.array([-3.0e-6 if name in ("q4_0", "q8_0") else 0.37], np.float16).view(np.uint8)
    y = call(getattr(base, "dequantize_row_%s" % name), blocks, np.zeros(2 * block, f32))
    array("uint8_t", name + "_blocks", blocks, "%d")
    array("uint32_t", name + "_numbers", y.view(np.uint32), "0x%08x")

# ---- activations: rows with zeros, ties, ends of the range, tiny and huge numbers among ordinary ones
x = rng.normal(size=4 * 256).astype(f32)
x[0:32] = 0
x[32:64] = np.arange(32) - 15.5  # ties in q8_0: the largest is 127 below
x[63] = 127
x[64:96] = (np.arange(32) - 16.5) * -2
x[95] = -254
x[96:128] *= f32(1e-6)
x[128:160] *= f32(1e4)
x[160:192] *= f32(3e-30)
x[256:512] = np.round(x[256:512] * 8) + f32(0.5)
x[300] = 127
x[512:768] = 0
x[768:] *= f32(0.01)
x[800], x[900] = f32(0.05), f32(-0.05)  # the first of equals counts


def q8_k(x):
    b = x.reshape(-1, 256)
    m = b[np.arange(len(b)), np.abs(b).argmax(1)]
    inv = np.divide(f32(-127), m, where=m != 0, out=np.zeros_like(m))
    q = np.minimum(127, np.rint(inv[:, None] * b)).astype(np.int8)
    return q, np.divide(f32(1), inv, where=m != 0, out=np.zeros_like(m))


def q8_0(x, reference):
    b = x.reshape(-1, 32)
    m = np.abs(b).max(1)
    d = (m / f32(127)).astype(f32)
    with np.errstate(divide="ignore", over="ignore"):
        inv = np.where(d != 0, f32(1) / d if reference else f32(127) / m, f32(0)).astype(f32)
    v = (b * inv[:, None]).astype(f32)
    return (np.trunc(v + np.copysign(f32(0.5), v)) if reference else np.rint(v)).astype(np.int8), d.astype(np.float16)


def check(mine, theirs):
    assert all((a == b).all() for a, b in zip(mine, theirs)), "numpy and ggml differ"
    return mine


raw = call(base.quantize_row_q8_K_ref, x, np.zeros(4 * 292, np.uint8)).reshape(-1, 292)
q, s = check(q8_k(x), (raw[:, 4:260].view(np.int8), raw[:, :4].copy().view(f32)[:, 0]))
array("uint32_t", "act_numbers", x.view(np.uint32), "0x%08x")
array("int8_t", "q8_k_codes", q, "%d")
array("uint32_t", "q8_k_scales", s.view(np.uint32), "0x%08x")
for f, reference in [(base.quantize_row_q8_0_ref, True), (avx.quantize_row_q8_0, False)]:
    raw = call(f, x, np.zeros(32 * 34, np.uint8)).reshape(-1, 34)
    q, s = check(q8_0(x, reference), (raw[:, 2:].view(np.int8), raw[:, :2].copy().view(np.float16)[:, 0]))
    array("int8_t", "q8_0_codes_" + ("reference" if reference else "avx"), q, "%d")
    array("uint16_t", "q8_0_scales_" + ("reference" if reference else "avx"), s.view(np.uint16), "0x%04x")

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ggml.h"), "w") as f:
    f.write("\n".join(out) + "\n")
