"""Finds the coefficients in src/ops/vmath.h: polynomials of least largest error, by Lawson's method (least squares with weights that
grow where the error is large). Prints each with its error and the float coefficients, lowest power first.

    python3 tests/golden/vmath.py
"""
import math

import numpy as np


def fit(name, f, weight, variable, powers, rounds=3000):
    A = np.array([variable**k for k in powers]).T * weight[:, None]
    y = f * weight
    lam = np.full(len(y), 1 / len(y))
    for _ in range(rounds):
        s = np.sqrt(lam)
        c = np.linalg.lstsq(A * s[:, None], y * s, rcond=None)[0]
        e = np.abs(A @ c - y)
        lam = lam * (e + 1e-300)
        lam /= lam.sum()
    print(f"{name}: largest error {e.max():.2g}:", " ".join(repr(np.float32(v)) for v in c))


def erfcx(z):
    """erfc(z) exp(z^2); for large z its asymptotic series"""
    if z < 6:
        return math.erfc(z) * math.exp(z * z)
    s, term = 0.0, 1.0
    for k in range(1, 12):
        s, term = s + term, -term * (2 * k - 1) / (2 * z * z)
    return s / (z * math.sqrt(math.pi))


r = np.cos(np.linspace(0, np.pi, 2001)) * math.log(2) / 2 * 1.01
series = sum(r ** (k - 2) / math.factorial(k) for k in range(2, 25))
fit("(e^r - 1 - r) / r^2 in r, relative to e^r", series, r**2 / np.exp(r), r, range(5))

x = np.sin(np.linspace(0, np.pi / 2, 2001)) * 0.65
x = x[x > 0.02]
fit("(tanh(x)/x - 1) / x^2 in x^2, relative to tanh", (np.tanh(x) / x - 1) / x**2, x**3 / np.tanh(x), x**2, range(5))

x = np.sin(np.linspace(0, np.pi / 2, 2001))[1:] * 1.1
phi = np.array([0.5 * math.erf(v / math.sqrt(2)) for v in x])
fit("(Phi(x) - 1/2) / x in x^2, times x", phi / x, x, x**2, range(6))

z = np.concatenate([np.linspace(0, 6, 3000), np.linspace(6, 30, 1000)])
g = np.array([erfcx(v) for v in z])
fit("erfc(z) e^(z^2) in 1/(1 + 0.4 z), relative", g, 1 / g, 1 / (1 + 0.4 * z), range(1, 10), 1500)

f = np.cos(np.linspace(0, np.pi, 3001)) * 0.36 + 0.06
f = f[(f > math.sqrt(0.5) - 1.003) & (f < math.sqrt(2) - 0.997) & (np.abs(f) > 0.02)]
fit("(log(1 + f) - f + f^2/2) / f^3 in f, relative to the logarithm", (np.log1p(f) - f + f * f / 2) / f**3, np.abs(f**3 / np.log1p(f)), f, range(8))
