"""Golden values of the codebook quantizer (NormalFloat, double quantization) and of integers with real zero points: writes adapter.h beside it.
From the definitions, with numpy and the normal quantile of Python's statistics module; numbers are float32 where the quantizer's are.

    python3 tests/golden/adapter.py
"""
import os
from statistics import NormalDist

import numpy as np

F = np.float32
rng = np.random.default_rng(20230523)


def nf4():
    quantile, o = NormalDist().inv_cdf, 0.9677083
    positive = [quantile(p) for p in np.linspace(o, 0.5, 9)[:-1]]
    negative = [-quantile(p) for p in np.linspace(o, 0.5, 8)[:-1]]
    return np.sort(np.array(positive + negative + [0.0])) / max(positive)


def codebook(w, table, block, block2):
    flat, values, codes, most = w.ravel(), np.zeros(w.size), np.zeros(w.size, int), []
    for b in range(0, w.size, block):
        most.append(np.abs(flat[b:b + block]).max())
    most = np.array(most, F)
    scale = most.copy()
    if block2:
        mean = F(most.astype(float).mean())
        for b in range(0, len(most), block2):
            far = most[b:b + block2] - mean
            step = F(np.abs(far).max() / F(127))
            scale[b:b + block2] = np.maximum(0, np.rint(far / step).astype(F) * step + mean)
    for i, x in enumerate(flat):
        codes[i] = np.abs(table - float(x) / float(most[i // block])).argmin()
        values[i] = F(table[codes[i]]) * scale[i // block]
    return codes, values


def groups(w, bits, group):
    codes, values, top = np.zeros(w.size, int), np.zeros(w.size), 2**bits - 1
    for b in range(0, w.size, group):
        x = w.ravel()[b:b + group].astype(float)
        s = (x.max() - x.min()) / top
        z = -x.min() / s
        codes[b:b + group] = np.clip(np.rint(x / s + z), 0, top)
        values[b:b + group] = s * (codes[b:b + group] - z)
    return codes, values


def numbers(a, form):
    return "{" + ", ".join(form(v) for v in np.asarray(a).ravel()) + "}"


w = np.round(rng.normal(size=(6, 50)) * 4096).astype(F) / F(4096)
table = nf4()
out = [
    "/* Made by adapter.py. */\n",
    f"static const double golden_nf4[16] = {numbers(table, lambda v: repr(float(v)))};\n",
    f"static const double golden_w[300] = {numbers(w, lambda v: repr(float(v)))};\n",
]
cases = [
    ("{use: nf4, block: 64, double_quant: false}", codebook(w, table, 64, 0)),
    ("{use: nf4, block: 8, block2: 16}", codebook(w, table, 8, 16)),
    ("{use: nf4, table: int4, block: 32, double_quant: false}", codebook(w, np.arange(-7, 8) / 7, 32, 0)),
    ("{use: nf4, table: uniform2, block: 32, double_quant: false}", codebook(w, np.array([-1, -1 / 3, 1 / 3, 1]), 32, 0)),
    ("{use: int_group, num_bits: 4, group_size: 10}", groups(w, 4, 10)),
    ("{use: int_group, num_bits: 2, group_size: 25}", groups(w, 2, 25)),
]
out.append("static const struct {\n    const char *spec;\n    int         code[300];\n    double      value[300];\n} goldens[] = {\n")
for spec, (codes, values) in cases:
    out.append(f'    {{"{spec}",\n     {numbers(codes, str)},\n     {numbers(values, lambda v: repr(float(v)))}}},\n')
out.append("};\n")

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "adapter.h"), "w") as f:
    f.write("".join(out))
