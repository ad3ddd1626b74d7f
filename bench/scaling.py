#!/usr/bin/env python3
"""How the step time of qtape grows with width, depth and batch: nanoseconds a multiply-add, which must not rise.

    bench/scaling.py [--markdown] [--arm lsq-w4a4] [width depth batch images]

width   an MLP 784-w-w-10                                batch 64
depth   an MLP of n hidden layers of 256                 batch 64
batch   the MLP 784-512-512-10
images  ResNet-8 on 1x28x28, over the batch

A step's multiply-adds are counted three times (forward, and the gradients of inputs and weights) but for a first layer whose input has no
gradient; the forward ones are those of `qtape show --cost`. All sizes run in turn, medians over the rounds. A cost that is more than
--slack above the least among the smaller sizes is marked with "rises". The ternary arm leaves the RMSNorm away where the recipe has none."""
import argparse
import os
import statistics
import sys
import tempfile

import common

SERIES = {
    "width": ("mlp", "vars.width=%d", (64, 128, 256, 512, 1024, 2048)),
    "depth": ("deep", "vars.depth=%d", (1, 2, 4, 8, 16, 32)),
    "batch": ("mlp", None, (16, 32, 64, 128, 256, 512, 1024)),
    "images": ("resnet8", None, (8, 16, 32, 64, 128, 256)),
}


def multiply_adds(qtape, net, arm, words):
    """Of a training step, one sample."""
    layers = common.cost(qtape, net, arm, words)
    adds = [layer[3] for layer in layers if layer[3]]
    return 3 * sum(adds) - (0 if common.first_gradient(layers, arm) else adds[0])


def series(name, arm, a):
    net, word, sizes = SERIES[name]
    runs = []
    for size in sizes:
        words = [word % size] if word else []
        cost = multiply_adds(a.qtape, net, arm, words)
        batch = 64 if word else size
        runs.append((size, cost, common.Qtape(a.qtape, net, arm, words + ["data.path=" + a.data], batch, a.threads)))
    for _ in range(a.rounds):
        for _, _, run in runs:
            run.run(a.seconds)
    least = None
    for size, cost, run in runs:
        rate = statistics.median(run.rates)
        ns = 1e9 / (rate * cost)
        rises = least is not None and ns > least * (1 + a.slack)
        cells = (name, arm, size, cost, "%.0f" % rate, "%.3f" % (1e3 * run.batch / rate), "%.4f" % ns, "rises" if rises else "")
        print("| " + " | ".join(str(c) for c in cells) + " |" if a.markdown else "%-7s %-9s %6s %12s %14s %10s %10s %s" % cells, flush=True)
        least = ns if least is None else min(least, ns)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("series", nargs="*", default=list(SERIES), help="of %s (default: all)" % ", ".join(SERIES))
    p.add_argument("--qtape", default="build/qtape")
    p.add_argument("--arm", action="append", choices=("fp32", "lsq-w4a4", "ternary"), help="may be repeated (default: all)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.6, help="of a block")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--slack", type=float, default=0.15)
    p.add_argument("--markdown", action="store_true")
    a = p.parse_args()
    for name in a.series:
        if name not in SERIES:
            p.error("unknown series %r" % name)
    a.qtape = os.path.abspath(a.qtape)
    head = ("series", "arm", "size", "multiply-adds", "samples/s", "ms a step", "ns each", "")
    print("| " + " | ".join(head) + " |\n| --- | --- |" + " ---: |" * 5 + " --- |" if a.markdown else "%-7s %-9s %6s %12s %14s %10s %10s %s" % head)
    with tempfile.TemporaryDirectory() as folder:
        a.data = common.make_data(os.path.join(folder, "bench.h5"), 2048)
        for name in a.series:
            for arm in a.arm or ("fp32", "lsq-w4a4", "ternary"):
                series(name, arm, a)


if __name__ == "__main__":
    sys.exit(main())
