#!/usr/bin/env python3
"""A training step of qtape against PyTorch's fp32 step, run alternately; prints samples/s and ratios of medians.

    bench/step.py [--qtape build/qtape] [--rounds 5] [mlp|resnet8 ...]

MLP 784-512-512-10 and ResNet-8 on 28 x 28 images, batch 128, Adam. PyTorch computes on random tensors; qtape trains its recipe on
Fashion-MNIST, loading included. PyTorch is whatever `import torch` of this interpreter finds; on Debian:

    apt-get install python3-torch libopenblas0-openmp
    LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp /usr/bin/python3 bench/step.py

(with the pthread OpenBLAS that Debian installs by default PyTorch is many times slower)."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

BATCH = 128
NETS = {"mlp": ("recipes/fashion-mnist/mlp.yaml", 600, ("fp32", "lsq-w4a4", "ternary")),
        "resnet8": ("recipes/fashion-mnist/resnet8.yaml", 40, ("fp32", "lsq-w4a4"))}


def torch_net(name):
    import torch.nn as nn
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))

    def conv(cin, cout, kernel, stride):
        return [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout)]

    class Block(nn.Module):
        def __init__(self, cin, cout, stride):
            super().__init__()
            self.body = nn.Sequential(*conv(cin, cout, 3, stride), nn.ReLU(), *conv(cout, cout, 3, 1))
            self.short = nn.Sequential(*([] if cin == cout else conv(cin, cout, 1, stride)))

        def forward(self, x):
            return (self.body(x) + self.short(x)).relu()

    return nn.Sequential(*conv(1, 16, 3, 1), nn.ReLU(), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def torch_steps(name, steps):
    """Median samples/s of fp32 steps; the child process of torch_rate."""
    import torch
    torch.set_num_threads(2)
    net = torch_net(name)
    optim = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y, times = torch.rand(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,)), []
    for _ in range(steps):
        start = time.perf_counter()
        optim.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optim.step()
        times.append(time.perf_counter() - start)
    print(BATCH / statistics.median(times[steps // 10:]))


def torch_rate(name, steps):
    return float(subprocess.run([sys.executable, __file__, "--torch", name, str(steps)], check=True, capture_output=True, text=True).stdout)


def qtape_rate(qtape, recipe, arm, steps):
    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        subprocess.run([qtape, "train", recipe, "--arm", arm, "~train.epochs", "train.steps=%d" % steps, "train.eval_every=%d" % steps,
                        "--threads", "2", "--run", run, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(run, "metrics.jsonl")) as f:
            return json.loads(f.readlines()[-1])["samples_per_s"]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--qtape", default="build/qtape")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("nets", nargs="*", default=list(NETS))
    a = p.parse_args()
    for name in a.nets:
        recipe, steps, arms = NETS[name]
        rates = {}
        for _ in range(a.rounds):
            rates.setdefault("PyTorch fp32", []).append(torch_rate(name, steps))
            for arm in arms:
                rates.setdefault("qtape " + arm, []).append(qtape_rate(a.qtape, recipe, arm, steps))
        base = statistics.median(rates["PyTorch fp32"])
        for what, v in rates.items():
            print("%-8s %-16s %8.0f samples/s  %5.2f x PyTorch fp32" % (name, what, statistics.median(v), statistics.median(v) / base), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--torch"]:
        torch_steps(sys.argv[2], int(sys.argv[3]))
    else:
        main()
