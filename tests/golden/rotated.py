"""Golden images of the data set `rotated`: writes rotated.h beside it. The first three training images of the digits, turned counterclockwise by
torch's grid_sample (bilinear, zeros beyond the edge) over a grid of complex numbers: multiplying by exp(-i a) turns back.

    python3 tests/golden/rotated.py
"""
import re
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
ANGLES = [0, 15, 30, 75, -40, 180]

texts = re.findall(r'"([a-q]{64})\d"', (HERE.parent.parent / "datasets/digits.h").read_text())
images = np.array([[ord(c) - ord("a") for c in t] for t in texts[:3]], float).reshape(3, 8, 8)


def turned(image, degrees):
    x, y = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(1, -1, 8))
    z = (x + 1j * y) * np.exp(-1j * np.radians(degrees))
    grid = torch.from_numpy(np.stack([z.real, -z.imag], -1))[None]
    return torch.nn.functional.grid_sample(torch.from_numpy(image)[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0, 0].numpy()


with open(HERE / "rotated.h", "w") as f:
    f.write("/* Made by rotated.py: digits turned by several angles. */\n")
    f.write("static const int golden_angles[] = {%s};\n" % ", ".join(map(str, ANGLES)))
    f.write("static const double golden_images[%d][3][64] = {\n" % len(ANGLES))
    for a in ANGLES:
        f.write("    {" + ",\n     ".join("{" + ", ".join("%.9g" % round(v, 9) for v in turned(i, a).ravel()) + "}" for i in images) + "},\n")
    f.write("};\n")
