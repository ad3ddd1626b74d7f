#!/usr/bin/env python3
"""Pictures of quantized gradients from the `quant` events of training runs (metrics.jsonl): no library is needed.

    scripts/gradient_pictures.py OUT_FOLDER RUN_2_GROUPS RUN_4_GROUPS RUN_8_GROUPS

ranges.svg: how far below the largest range those of channels and of samples lie, of the second run; noise.svg: the error's power over the
gradient's own for one scale, 2, 4 and 8 groups, and a scale of its own for each channel or sample."""
import json
import math
import os
import sys

COLORS = ("#4477aa", "#ee7733", "#228833")
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">
<style>text { fill: #768390 } .line { stroke: #8c959f } .faint { stroke: #8c959f; stroke-opacity: .3 }</style>
"""
WIDTH, HEIGHT, LEFT, TOP, W, H = 820, 330, 60, 56, 330, 210


def events(run):
    """The last quant event of each gradient of a run, in their order."""
    last = {}
    with open(os.path.join(run, "metrics.jsonl")) as f:
        for line in f:
            m = json.loads(line)
            if m["event"] == "quant" and m["path"].endswith(".grad"):
                last[m["path"][:-5]] = m
    return last


def text(x, y, words, anchor="middle", size=13):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>\n' % (x, y, anchor, size, words)


def line(x1, y1, x2, y2, kind):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>\n' % (x1, y1, x2, y2, kind)


def bar(x, y, w, h, color, words):
    return '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>\n' % (x, y, w, h, color, words)


def legend(names):
    return "".join('<rect x="%d" y="8" width="12" height="12" fill="%s"/>\n' % (LEFT + 130 * k, COLORS[k % 3]) + text(LEFT + 18 + 130 * k, 19, name, "start")
                   for k, name in enumerate(names))


def panel(x, title, below):
    return text(x + W / 2, TOP - 12, title, size=14) + line(x, TOP + H, x + W, TOP + H, "line") + text(x + W / 2, TOP + H + 46, below)


def ranges(layers, kind, x, title, octaves=12):
    out = panel(x, title, "octaves below the largest (factor 2 each)")
    for share in (0, 25, 50, 75, 100):
        y = TOP + H * (1 - share / 100)
        out += line(x, y, x + W, y, "faint") + text(x - 6, y + 4, "%d %%" % share, "end", 11)
    step = W / octaves
    for o in range(octaves):
        out += text(x + (o + .5) * step, TOP + H + 18, str(o) if o < octaves - 1 else "%d+" % o, size=11)
        for k, (name, m) in enumerate(layers.items()):
            counts = m["octaves_" + kind]
            share = (counts[o] if o < octaves - 1 else sum(counts[o:])) / sum(counts)
            out += bar(x + o * step + 2 + k * (step - 4) / 3, TOP + H * (1 - share), (step - 4) / 3, H * share, COLORS[k % 3], "%s: %.1f %%" % (name, 100 * share))
    return out


def noise(runs, kind, x, title):
    bottom, top = -3, 0  # powers of ten
    out = panel(x, title, "scales along the axis")
    for p in range(bottom, top + 1):
        y = TOP + H * (top - p) / (top - bottom)
        out += line(x, y, x + W, y, "faint") + text(x - 6, y + 4, "%g" % 10 ** p, "end", 11)
    names = ("one", "2 groups", "4 groups", "8 groups", "each its own")
    step = W / len(names)
    for s, name in enumerate(names):
        out += text(x + (s + .5) * step, TOP + H + 18, name, size=11)
        for k, layer in enumerate(runs[1]):
            m = (runs[1], runs[0], runs[1], runs[2], runs[1])[s][layer]
            v = m["nmse_" + kind + ("_tensor" if s == 0 else "_exact" if s == 4 else "")]
            h = H * (math.log10(max(v, 10 ** bottom)) - bottom) / (top - bottom)
            out += bar(x + s * step + 5 + k * (step - 10) / 3, TOP + H - h, (step - 10) / 3, h, COLORS[k % 3], "%s: %.3g" % (layer, v))
    return out


def save(folder, name, body):
    with open(os.path.join(folder, name), "w") as f:
        f.write(HEAD % (WIDTH, HEIGHT) + body + "</svg>\n")


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    folder, runs = sys.argv[1], [events(run) for run in sys.argv[2:]]
    os.makedirs(folder, exist_ok=True)
    right = LEFT + W + 80
    save(folder, "ranges.svg", legend(runs[1]) + ranges(runs[1], "channel", LEFT, "Ranges of channels") + ranges(runs[1], "sample", right, "Ranges of samples and places"))
    save(folder, "noise.svg", legend(runs[1]) + noise(runs, "channel", LEFT, "Noise, scales along channels (for dx)") + noise(runs, "sample", right, "Noise, scales along samples (for dw)"))


if __name__ == "__main__":
    main()
