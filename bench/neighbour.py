#!/usr/bin/env python3
"""A training step beside a busy neighbour: how much slower it is while another process spins on a core.

    bench/neighbour.py [--markdown] [--torch] [mlp resnet8 ...]

Blocks with and without the neighbour take turns; medians. With as many threads as cores, a step that shares its cores fairly with one more
process takes 1 + 1/threads times as long; one whose threads wait spinning at barriers takes many times as long. --torch measures
PyTorch's fp32 step too."""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import common
import step


class Neighbour:
    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()


def measure(name, arm, who, run, a):
    """run(seconds) -> rates."""
    alone, beside = [], []
    run(a.seconds)
    for _ in range(a.rounds):
        alone += run(a.seconds)
        with Neighbour():
            time.sleep(0.1)
            beside += run(a.seconds)
    p, q = statistics.median(alone), statistics.median(beside)
    cells = (name, arm, who, "%.0f" % p, "%.0f" % q, "%.2f" % (p / q))
    print("| " + " | ".join(cells) + " |" if a.markdown else "%-9s %-9s %-8s %12s %12s %9s" % cells, flush=True)


def torch_rates(peer, seconds):
    before = len(peer.rates)
    peer.run(seconds)
    return peer.rates[before:]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("net", nargs="*", default=["mlp", "resnet8"])
    p.add_argument("--qtape", default="build/qtape")
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--rounds", type=int, default=4)
    p.add_argument("--seconds", type=float, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--torch", action="store_true")
    p.add_argument("--any-blas", action="store_true")
    p.add_argument("--markdown", action="store_true")
    a = p.parse_args()
    a.qtape = os.path.abspath(a.qtape)
    head = ("network", "arm", "who", "alone", "beside", "slower by")
    print("| " + " | ".join(head) + " |\n| --- | --- | --- | ---: | ---: | ---: |" if a.markdown else "%-9s %-9s %-8s %12s %12s %9s" % head)
    with tempfile.TemporaryDirectory() as folder:
        data = "data.path=" + common.make_data(os.path.join(folder, "bench.h5"), step.SAMPLES)
        for net in a.net:
            for arm in step.ARMS:
                run = common.Qtape(a.qtape, net, arm, [data], a.batch, a.threads)
                measure(net, arm, "qtape", run.run, a)
            if a.torch:
                peer = step.Torch(net, "fp32", "eager", "", False, a.batch, "sgd", a)
                if peer.error:
                    sys.exit("PyTorch: %s" % peer.error)
                measure(net, "fp32", "PyTorch", lambda seconds: torch_rates(peer, seconds), a)
                peer.close()


if __name__ == "__main__":
    sys.exit(main())
