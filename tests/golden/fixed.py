"""Golden values of the quantizer `fixed`: writes fixed.h beside it. Exact rational arithmetic of the standard library from the definitions of
ap_fixed's rounding and overflow; K-hot numbers by trying all of them; the gradient of the binary point by the formula with dF = -ln2 s ds.

    python3 tests/golden/fixed.py
"""
import os
import random
from fractions import Fraction
from itertools import combinations
from math import floor, log

rng = random.Random(2401)
HALF = Fraction(1, 2)


def rounded(v, how):
    low = floor(v)
    rest = v - low
    if how == "trn":
        return low
    if how == "rnd":
        return low + (rest >= HALF)
    if how == "rnd_conv":
        return low + (rest > HALF or (rest == HALF and low % 2))
    return low + (rest > HALF or (rest == HALF and v < 0))


def bounds(bits, signed):
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def fitted(i, overflow, n, p):
    return min(max(i, n), p) if overflow == "sat" else (i - n) % (p - n + 1) + n


def k_hot(j, K, p):
    """the nearest of all numbers of at most K bits, of two equally near the larger; none above p"""
    top = p.bit_length() + 1
    every = {sum(1 << b for b in pick) for k in range(K + 1) for pick in combinations(range(top), k)}
    v = min(every, key=lambda v: (abs(v - abs(j)), -v))
    v = min(v, max(v for v in every if v <= p))
    return v if j >= 0 else -v


def case(bits, signed, how, overflow, f, K=0, mask_wrapped=False):
    n, p = bounds(bits, signed)
    s = Fraction(2) ** -f
    ties = [s * Fraction(k, 2) for k in range(2 * n - 5, 2 * p + 6, max(1, (p - n) // 12))]
    x = ties + [s * Fraction(rng.randint(64 * (n - 9), 64 * (p + 9)), 64) for _ in range(20)] + [Fraction(0), s * 1000, -s * 1000]
    dy = [Fraction(rng.randint(-64, 64), 64) for _ in x]
    y, dx, codes, dF = [], [], [], 0.0
    for xi, di in zip(x, dy):
        i = rounded(xi / s, how)
        j = fitted(i, overflow, n, p)
        if K:
            j = k_hot(j, K, p)
        inside = n <= i <= p or (overflow == "wrap" and not mask_wrapped)
        codes.append(j)
        y.append(j * s)
        dx.append(di if inside else Fraction(0))
        dF += -log(2) * float(di * (j * s - (xi if inside else 0)))
    spec = "{use: fixed, num_bits: %d, signed: %s, rounding: %s, overflow: %s, k_hot: %d, mask_wrapped: %s, grad_scale: none}" % (
        bits, str(signed).lower(), how, overflow, K, str(mask_wrapped).lower())
    row = lambda v: "{" + ", ".join(float(e).hex() for e in v) + "}"
    return "    {\"%s\", %d, %d, %s,\n     %s,\n     %s,\n     %s,\n     {%s}, %.17g}," % (
        spec, len(x), f, row(x), row(dy), row(y), row(dx), ", ".join(map(str, codes)), dF)


cases = [case(4, True, how, overflow, f) for how, f in (("trn", 2), ("rnd", -1), ("rnd_conv", 6), ("rnd_zero", 3)) for overflow in ("sat", "wrap")]
cases += [case(3, False, "rnd", "sat", 1), case(5, False, "rnd_conv", "wrap", 4), case(4, True, "rnd", "wrap", 0, mask_wrapped=True)]
cases += [case(5, True, "rnd", "sat", 3, K=1), case(5, True, "rnd", "sat", 3, K=2), case(8, True, "rnd_conv", "sat", 7, K=3), case(6, False, "trn", "sat", 2, K=2)]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixed.h"), "w") as out:
    out.write("/* Made by fixed.py. */\nenum { MOST = 64 };\nstatic const struct {\n    const char *spec;\n    int         n, point;\n"
              "    double      x[MOST], dy[MOST], y[MOST], dx[MOST];\n    int32_t     code[MOST];\n    double      dpoint;\n} golden[] = {\n")
    out.write("\n".join(cases) + "\n};\n")
