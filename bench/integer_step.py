#!/usr/bin/env python3
"""Training steps with integer gradients beside those in floats; qtape alone, arms run in turns, ratios of medians.

    bench/integer_step.py                        mlp, cnn, resnet8 and resnet20: some six minutes
    bench/integer_step.py --quick mlp cnn

Arms fp32; lsq: learned steps, 4 bits (first and last layer 8), whose forward is in integers and whose backward is in floats; g4: the same
with ShiftQuant's gradients, so that all three products of every layer are in integers. Batch 128, SGD, the L1 batch norm in all arms. A
ratio above 1 says how many times faster a step is than that in fp32."""
import argparse
import os
import statistics
import tempfile

import common

NETS, ARMS = ("mlp", "cnn", "resnet8", "resnet20"), ("fp32", "lsq-w4a4", "lsq-g4")
SAMPLES = 2048


def measure(net, data, a):
    words = ["data.path=" + data] + ([] if net == "mlp" else ["vars.norm=l1_batch_norm"])
    arms = [common.Qtape(a.qtape, net, arm, words, a.batch, a.threads) for arm in ARMS]
    for _ in range(a.rounds):
        for arm in arms:
            arm.run(a.seconds)
    return [statistics.median(arm.rates) for arm in arms]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("net", nargs="*", default=list(NETS), help="of %s (default: all)" % ", ".join(NETS))
    p.add_argument("--qtape", default="build/qtape", help="the program (default: build/qtape)")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.5, help="of a block")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--quick", action="store_true", help="2 rounds of short blocks")
    a = p.parse_args()
    if a.quick:
        a.rounds, a.seconds = 2, 0.6
    a.qtape = os.path.abspath(a.qtape)
    with tempfile.TemporaryDirectory() as folder:
        data = common.make_data(os.path.join(folder, "bench.h5"), SAMPLES)
        print("| network | fp32, samples/s | lsq, samples/s | g4, samples/s | lsq : fp32 | g4 : fp32 | g4 : lsq |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for net in a.net:
            fp32, lsq, g4 = measure(net, data, a)
            print("| %s | %.0f | %.0f | %.0f | %.2f | %.2f | %.2f |" % (net, fp32, lsq, g4, lsq / fp32, g4 / fp32, g4 / lsq), flush=True)


if __name__ == "__main__":
    main()
