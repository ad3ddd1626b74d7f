#!/usr/bin/env python3
"""Writes datasets/digits.h from scikit-learn's copy of the UCI set: pip download scikit-learn --no-deps; digits.prepare.py scikit_learn-*.whl

One text of 65 letters a sample: 64 pixels row by row, 'a' is 0 and 'q' is 16, then the class, '0' to '9'.
"""
import gzip
import hashlib
import os
import sys
import zipfile

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"  # of the uncompressed CSV
PER_LINE = 2

csv = gzip.decompress(zipfile.ZipFile(sys.argv[1]).read("sklearn/datasets/data/digits.csv.gz"))
digest = hashlib.sha256(csv).hexdigest()
if digest != SHA256:
    sys.exit(f"digits.csv: SHA-256 {digest}, expected {SHA256}")
rows = [[int(float(v)) for v in line.split(",")] for line in csv.decode().split()]
assert len(rows) == 1797 and all(len(r) == 65 and 0 <= min(r) and max(r[:64]) <= 16 and r[64] <= 9 for r in rows)
texts = ['"' + "".join(chr(ord("a") + v) for v in r[:64]) + str(r[64]) + '"' for r in rows]

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "digits.h"), "w") as f:
    f.write("/* Made by digits.prepare.py; origin and licence are in DIGITS-LICENCE. 64 pixels row by row ('a' is 0, 'q' is 16), then the class. */\n")
    f.write(f"enum {{ DIGITS = {len(rows)}, DIGIT_PIXELS = 64 }};\nstatic const char digits[DIGITS][DIGIT_PIXELS + 2] = {{\n")
    for i in range(0, len(texts), PER_LINE):
        f.write("    " + ", ".join(texts[i:i + PER_LINE]) + ",\n")
    f.write("};\n")
