#!/usr/bin/env python3
"""What a training step must cost at least on this machine, and how near qtape and the aims are to it.

    bench/step.py --json /tmp/step.json          first
    bench/roofline.py --json /tmp/step.json [--peaks build/bench_peaks] [--markdown]

Operations: 2 a multiply-add; forward, gradient of the inputs (of the first layer's only if something in front of it is trained), gradient of
the weights. Forward runs at the peak of bytes where weights are integers, all else at that of floats, both as bench_peaks measures them in
registers.

Bytes, at the least that a step can move when normalization, activation function and quantization cost one pass each way: of the input of
each layer with weights 4 written and 5 read forward (or 1 and 2 as codes), 4 written and 4 read of its gradient, 5 read again for the
gradient of the weights; of its output 4 written and 4 read, and as much for its gradient; of each parameter 8 for the two products, 8 for
its gradient, 16 (SGD with momentum) or 24 (Adam) for the step. At the bandwidth of the last cache if it all fits there, of memory if not.

limit is the speed at which the slower of the two, operations and bytes, runs without a break, if the other is hidden behind it. aim is the
ratio that qtape should reach over PyTorch's same arm, most the one that the limit allows."""
import argparse
import json
import re
import subprocess
import sys

import common

AIMS = {("mlp", "fp32"): 1.2, ("resnet8", "fp32"): 1.2, ("mlp", "lsq-w4a4"): 5, ("resnet8", "lsq-w4a4"): 2.5, ("mlp", "ternary"): 3}


def peaks(program, threads):
    """(float Gop/s, byte Gop/s, GB/s of the last cache, of memory)"""
    text = subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout
    rate = {line[:28].strip(): float(line.split()[-1]) for line in text.splitlines()[1:]}
    of = lambda word: max(v for k, v in rate.items() if k.startswith(word))
    return of("fp32"), of("int8"), of("triad, 6 MiB"), of("triad, 384 MiB")


def last_cache():
    """Bytes, or 32 MiB where the system does not say."""
    try:
        with open("/sys/devices/system/cpu/cpu0/cache/index3/size") as f:
            return int(re.sub("K", "000", f.read().strip()).replace("M", "000000"))
    except OSError:
        return 32 << 20


def step_cost(layers, batch, optim, arm):
    """Operations on floats, operations on bytes, bytes moved."""
    floats = codes = moved = 0
    inputs, first = 784, not common.first_gradient(layers, arm)
    for kind, outputs, parameters, adds, bits in layers:
        moved += parameters * (8 + 8 + (24 if optim == "adam" else 16))
        if adds:
            quantized = 0 < bits <= 8
            codes, floats = codes + quantized * 2 * adds * batch, floats + (not quantized) * 2 * adds * batch
            floats += 2 * adds * batch * (1 if first else 2)
            moved += batch * inputs * ((3 if quantized else 9) + 5 + (0 if first else 8)) + batch * outputs * 16
            first = False
        inputs = outputs
    return floats, codes, moved


def row(r, peak, a):
    arm, net, batch = r["arm"], r["net"], r["batch"]
    floats, codes, moved = step_cost(common.cost(a.qtape, net, arm, []), batch, r["optim"], arm)
    arithmetic = (floats / peak[0] + codes / peak[1]) / 1e9
    memory = moved / (peak[2] if moved < last_cache() else peak[3]) / 1e9
    limit = batch / max(arithmetic, memory)
    cells = (net, batch, r["optim"], arm, "%.2f" % (floats / 1e9), "%.2f" % (codes / 1e9), "%.1f" % (moved / 1e6), "%.2f" % (1e3 * arithmetic),
             "%.2f" % (1e3 * memory), "%.0f" % limit, "%.0f" % r["qtape"], "%.0f %%" % (100 * r["qtape"] / limit), AIMS.get((net, arm), ""), "%.1f" % (limit / r["torch"]))
    print("| " + " | ".join(str(c) for c in cells) + " |" if a.markdown else "%-9s %5d %-5s %-9s %8s %8s %8s %8s %8s %9s %9s %6s %5s %6s" % cells)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--json", required=True, help="what bench/step.py --json wrote")
    p.add_argument("--qtape", default="build/qtape")
    p.add_argument("--peaks", default="build/bench_peaks")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--markdown", action="store_true")
    a = p.parse_args()
    peak = peaks(a.peaks, a.threads)
    print("peaks, %d threads: floats %.0f Gop/s, bytes %.0f Gop/s, last cache %.0f GB/s, memory %.0f GB/s\n" % ((a.threads,) + peak))
    head = ("network", "batch", "optim", "arm", "Gop fp32", "Gop int8", "MB", "ms ops", "ms bytes", "limit", "qtape", "of it", "aim", "most")
    print("| " + " | ".join(head) + " |\n| --- | ---: | --- | --- |" + " ---: |" * 10 if a.markdown else "%-9s %5s %-5s %-9s %8s %8s %8s %8s %8s %9s %9s %6s %5s %6s" % head)
    with open(a.json) as f:
        for line in f:
            row(json.loads(line), peak, a)


if __name__ == "__main__":
    sys.exit(main())
