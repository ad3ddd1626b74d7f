#!/usr/bin/env python3
"""Makes the small data of the smoke recipes from the digits and iris sets of scikit-learn:
   digits.h5 (train/x [120,8,8], train/y, test/x [40,8,8], test/y), digits/{train,test}/{0,1,2}/*.png, iris.csv.
   Usage: make.py (needs scikit-learn, numpy, h5py)"""
import os
import struct
import zlib

import h5py
import numpy as np
from sklearn.datasets import load_digits, load_iris

here = os.path.dirname(os.path.abspath(__file__))
digits = load_digits()


def png(path, grey):
    """An 8-bit grey PNG."""
    h, w = grey.shape
    raw = b"".join(b"\0" + bytes(row) for row in grey)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


with h5py.File(os.path.join(here, "digits.h5"), "w", track_order=False) as f:
    for split, rows in (("train", slice(0, 120)), ("test", slice(120, 160))):
        f.create_dataset(split + "/x", data=digits.images[rows].astype(np.uint8))
        f.create_dataset(split + "/y", data=digits.target[rows].astype(np.uint8))

for label in range(3):
    images = digits.images[digits.target == label][:24]
    for i, image in enumerate(images):
        folder = os.path.join(here, "digits", "test" if i % 4 == 3 else "train", str(label))
        os.makedirs(folder, exist_ok=True)
        png(os.path.join(folder, "%02d.png" % i), (image * 15.9375).astype(np.uint8))

iris = load_iris()
with open(os.path.join(here, "iris.csv"), "w") as f:
    f.write("sepal_length,sepal_width,petal_length,petal_width,species\n")
    for x, y in zip(iris.data, iris.target):
        f.write(",".join("%g" % v for v in x) + ",%d\n" % y)
