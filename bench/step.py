#!/usr/bin/env python3
"""Training steps of qtape and of PyTorch, run alternately; ratios of medians.

    bench/step.py --check                        both compute the same thing: logits, losses of training steps
    bench/step.py [--markdown]                   everything: about half an hour
    bench/step.py --quick mlp resnet8            short blocks, few rounds
    bench/step.py --batch 64 --optim adam --arm lsq-w4a4 mlp

Networks mlp (784-512-512-10), resnet8 and resnet20 on 1x28x28 images, llama (128 numbers a token, 4 blocks, texts of 128 tokens; rates are tokens); arms fp32, lsq-w4a4 (first and last layer 8 bits) and ternary
(BitNet b1.58); batch 64 and 256; SGD with momentum and Adam. The recipes are bench/recipes/*.yaml, PyTorch's side is torch_nets.py.

A block is a second of steps after a warm-up; blocks of all contestants take turns, a rate is a mean over half a second, and medians are
taken over the rates of all rounds. PyTorch may use the fastest of several ways to write a quantizer (torch_nets.py), memory layouts, and
torch.compile where it has that; those far behind after the first round are dropped. PyTorch is given one batch in memory; qtape's steps
include loading and shuffling. Memory is the peak resident size of the process, of qtape with its data.

PyTorch is that of the interpreter which runs this script, and it must not compute with a pthread build of OpenBLAS, with which small
networks are up to twenty times slower. On Debian

    apt-get install python3-torch python3-h5py libopenblas0-openmp
    LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp /usr/bin/python3 bench/step.py

which the script does by itself where that folder exists."""
import argparse
import ctypes
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import common

NETS, ARMS = ("mlp", "resnet8", "resnet20", "llama"), ("fp32", "lsq-w4a4", "ternary")
OPENMP = "/usr/lib/x86_64-linux-gnu/openblas-openmp"
SLOW = 1.4  # a form of PyTorch this many times slower than the fastest in the first round is dropped
SAMPLES = 2048
TOKENS = 128  # of a text of the language model


# ---- PyTorch, in processes of their own ---------------------------------------------------------------------------------------------

def blas_problem():
    """What is wrong with the BLAS that this process has loaded, or None."""
    import torch
    if torch.backends.mkl.is_available():
        return None
    torch.rand(64, 64) @ torch.rand(64, 64)
    with open("/proc/self/maps") as f:
        files = {line.split()[-1] for line in f if "openblas" in line and ".so" in line}
    kinds = [ctypes.CDLL(file).openblas_get_parallel() for file in files if hasattr(ctypes.CDLL(file), "openblas_get_parallel")]
    if 1 in kinds:
        return "PyTorch computes with the pthread build of OpenBLAS; apt-get install libopenblas0-openmp, or set LD_LIBRARY_PATH (see --help)"
    if 2 not in kinds:
        return "PyTorch computes with an unknown BLAS, neither MKL nor OpenBLAS of OpenMP; --any-blas goes on"
    return None


def peak_mb():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


def worker(net_name, arm, form, layout, compiled, batch, optim_name, threads, any_blas):
    """Steps on command: reads "SECONDS" lines, answers with rates and the peak memory."""
    import torch
    import torch_nets
    torch.set_num_threads(int(threads))
    problem = blas_problem()
    if problem and any_blas == "0":
        print(json.dumps({"error": problem}), flush=True)
        return
    torch.manual_seed(1)
    net = torch_nets.build(net_name, arm, form).train()
    x, y = torch.rand(int(batch), 1, 28, 28), torch.randint(0, 10, (int(batch),))
    if net_name == "llama":
        x, y = torch.randint(0, 256, (2, int(batch), TOKENS))
    if layout == "nhwc":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optim = torch_nets.optimizer(net, optim_name)
    torch_nets.step(net, optim, x, y)  # gives the steps of LSQ their first values
    if compiled == "1":
        net = torch.compile(net)
    for _ in range(3):
        torch_nets.step(net, optim, x, y)
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        torch_nets.step(net, optim, x, y)
        rates, until = [], time.perf_counter() + float(line)
        while time.perf_counter() < until:
            start, n, took = time.perf_counter(), 0, 0
            while took < common.WINDOW:
                torch_nets.step(net, optim, x, y)
                n, took = n + 1, time.perf_counter() - start
            rates.append(n * y.numel() / took)
        print(json.dumps({"rates": rates, "rss": peak_mb()}), flush=True)


class Torch:
    def __init__(self, net, arm, form, layout, compiled, batch, optim, a):
        self.name = " ".join(w for w in (form, layout, "compiled" if compiled else "") if w)
        self.rates, self.rss, self.error = [], 0, None
        env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
        if os.path.isdir(OPENMP):
            env["LD_LIBRARY_PATH"] = OPENMP + ":" + env.get("LD_LIBRARY_PATH", "")
        command = [sys.executable, __file__, "--worker", net, arm, form, layout, str(int(compiled)), str(batch), optim, str(a.threads),
                   str(int(a.any_blas))]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=env)
        answer = self.read()
        self.version = answer.get("version")

    def read(self):
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": self.last_words()}
        if "error" in answer:
            self.error = answer["error"]
        return answer

    def last_words(self):
        self.process.wait()
        self.log.seek(0)
        return (self.log.read().strip().splitlines() or ["ended with %d" % self.process.returncode])[-1]

    def run(self, seconds):
        """Between its blocks the process is stopped: the waiting threads of its OpenMP spin, in a virtual machine for long."""
        self.process.send_signal(signal.SIGCONT)
        print(seconds, file=self.process.stdin, flush=True)
        answer = self.read()
        self.process.send_signal(signal.SIGSTOP)
        self.rates += answer.get("rates", [])
        self.rss = answer.get("rss", 0)

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close(), self.log.close()


def forms_of(arm, a):
    """Names as in torch_nets.py."""
    if arm == "fp32":
        return ["eager"]
    return [f for f in a.form or ("function", "ops") if f != "fused" or arm == "lsq-w4a4"]


def torch_forms(net, arm, a):
    """(form, layout, compiled) of all contestants."""
    import importlib.util
    spec = importlib.util.find_spec("torch")
    with open(os.path.join(os.path.dirname(spec.origin), "version.py")) as f:
        version = next(line.split("'")[1] for line in f if "__version__" in line)
    compiles = int(version.split(".")[0]) >= 2
    layouts = ("", "nhwc") if net.startswith("resnet") else ("",)
    return [(form, layout, c) for form in forms_of(arm, a) for layout in layouts for c in ((False, True) if compiles and form != "fused" else (False,))]


# ---- measuring ----------------------------------------------------------------------------------------------------------------------

def drop_slow(contestants):
    best = max(statistics.median(c.rates) for c in contestants)
    for c in contestants:
        if statistics.median(c.rates) * SLOW < best:
            c.close()
    return [c for c in contestants if statistics.median(c.rates) * SLOW >= best]


def start(net, arm, batch, optim, a):
    found = []
    for form, layout, compiled in torch_forms(net, arm, a):
        c = Torch(net, arm, form, layout, compiled, batch, optim, a)
        if c.error and not (compiled or layout or form == "fused"):
            raise SystemExit("PyTorch, %s %s: %s" % (net, arm, c.error))
        if c.error:
            print("PyTorch, %s %s, %s: left out: %s" % (net, arm, c.name, c.error), file=sys.stderr)
            c.close()
        else:
            found.append(c)
    return found


def measure(net, batch, optim, a):
    """{arm: (PyTorch's contestants, qtape)} with all rates in."""
    text = net == "llama"
    arms = ["fp32"] + [arm for arm in a.arm if arm != "fp32" and (arm, net) != ("lsq-w4a4", "llama")]
    words = ["data.path=" + (a.text if text else a.data)] + common.optim_words(optim)
    peers = {arm: start(net, arm, batch, optim, a) for arm in arms}
    ours = {arm: common.Qtape(a.qtape, net, arm, words, batch, a.threads, text and TOKENS) for arm in arms if arm in a.arm}
    for r in range(a.rounds):
        for arm in arms:
            for c in peers[arm]:
                c.run(a.seconds), time.sleep(0.05)
            if arm in ours:
                ours[arm].run(a.seconds), time.sleep(0.05)
            if r == 0:
                peers[arm] = drop_slow(peers[arm])
    for arm in arms:
        for c in peers[arm]:
            c.close()
    return {arm: (max(peers[arm], key=lambda c: statistics.median(c.rates)), ours.get(arm)) for arm in arms}


HEAD = ("network", "batch", "optimizer", "arm", "PyTorch samples/s", "as", "qtape samples/s", "ratio", "to PyTorch fp32", "PyTorch MB", "qtape MB", "ratio")
WIDTH = (9, 5, 9, 9, 17, 15, 15, 6, 15, 10, 8, 6)


def row(cells, markdown):
    if markdown:
        return "| " + " | ".join(str(c) for c in cells) + " |"
    return "  ".join(str(c).rjust(w) for c, w in zip(cells, WIDTH))


def print_rows(net, batch, optim, found, a):
    base = statistics.median(found["fp32"][0].rates)
    for arm, (peer, ours) in found.items():
        if not ours:
            continue
        p, q = statistics.median(peer.rates), statistics.median(ours.rates)
        print(row((net, batch, optim, arm, "%.0f" % p, peer.name, "%.0f" % q, "%.2f" % (q / p), "%.2f" % (q / base), "%.0f" % peer.rss, "%.0f" % ours.rss,
                   "%.2f" % (ours.rss / peer.rss)), a.markdown), flush=True)
        if a.json:
            with open(a.json, "a") as f:
                json.dump({"net": net, "batch": batch, "optim": optim, "arm": arm, "torch": p, "form": peer.name, "torch_version": peer.version, "qtape": q,
                           "torch_fp32": base, "torch_mb": peer.rss, "qtape_mb": ours.rss, "rounds": a.rounds, "seconds": a.seconds}, f)
                f.write("\n")


def compare(a):
    if a.json:
        open(a.json, "w").close()
    print(row(HEAD, a.markdown), flush=True)
    if a.markdown:
        print(row(["---"] * 2 + ["---"] * 2 + ["---:", "---"] + ["---:"] * 6, True), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        a.data = common.make_data(os.path.join(folder, "bench.h5"), SAMPLES)
        a.text = common.make_text(os.path.join(folder, "bench.txt"), 1 << 20)
        for net in a.net:
            for batch in a.batch:
                for optim in a.optim:
                    print_rows(net, batch, optim, measure(net, batch, optim, a), a)


# ---- the check ----------------------------------------------------------------------------------------------------------------------

def exact_zeros(torch, net):
    """A ternary layer has sums that are exactly 0 in integers and a rounding error in floats: without a norm behind it ReLU's gradient would
    begin by chance there. In the check PyTorch's become 0 too."""
    for layer in (net.fc1, net.fc2):
        layer.register_forward_hook(lambda module, given, y: torch.where(y.abs() < 1e-9, torch.zeros_like(y), y))


def check_one(qtape, net_name, arm, form, optim_name, real, folder, steps=3):
    """qtape trains a step from its own start values; from there on both train `steps` steps on the same samples. Relative differences of
    the logits that the checkpoint gives (one a sample), and of the losses of the steps, in float of the first. The training split is one batch, so that its order is all that
    shuffling changes."""
    import h5py
    import numpy as np
    import torch
    import torch_nets
    words, data, run = ["data.batch_size=64"] + common.optim_words(optim_name), os.path.join(folder, "check.h5"), os.path.join(folder, "run")
    words.append("data.path=" + (data if os.path.exists(data) else common.make_data(data, 64)))
    first = tempfile.mkdtemp(dir=folder)
    common.train(qtape, net_name, arm, words, 1, 2, 1, os.path.join(first, "one"))
    logits = os.path.join(first, "logits.h5")
    subprocess.run([qtape, "eval", os.path.join(first, "one"), "--out", logits], check=True, stdout=subprocess.DEVNULL)
    lines = common.train(qtape, net_name, arm, words + ["init.checkpoint=%s/one/ckpt/last.h5" % first], steps, 2, 1, os.path.join(first, "more"))
    losses = [m["loss"] for m in lines if m["event"] == "step"]
    values = {}
    with h5py.File(os.path.join(first, "one", "ckpt", "last.h5"), "r") as f:
        f["params"].visititems(lambda name, o: values.update({name: o[()]}) if isinstance(o, h5py.Dataset) else None)
    with h5py.File(data, "r") as f, h5py.File(logits, "r") as g:
        x, y = (torch.from_numpy(np.asarray(f["train/" + k][()])) for k in "xy")
        test, want = torch.from_numpy(f["test/x"][()]), g["logits"][()]
    torch.set_default_dtype(real)
    net = torch_nets.build(net_name, arm, form)
    torch_nets.load(net, values)
    if (net_name, arm) == ("mlp", "ternary"):
        exact_zeros(torch, net)
    with torch.no_grad():
        forward = np.abs(net.eval()(test.to(real)).numpy() - want).max(axis=1) / np.abs(want).max()
    optim, theirs = torch_nets.optimizer(net.train(), optim_name), []
    for _ in range(steps):
        theirs.append(torch_nets.step(net, optim, x.to(real), y.long()).item())
    compared = steps if real == torch.float64 else 1
    return forward, max(abs(p - q) / abs(q) for p, q in zip(theirs[:compared], losses))


def check_text(qtape, arm, form, real, folder):
    """Relative differences of the logits of a model trained for one step, one a text."""
    import h5py
    import numpy as np
    import torch
    import torch_nets
    first = tempfile.mkdtemp(dir=folder)
    text = common.make_text(os.path.join(first, "text.txt"), 64 * TOKENS * 3)
    common.train(qtape, "llama", arm, ["data.path=" + text, "data.test_fraction=0.5"], 1, 2, 1, os.path.join(first, "one"))
    logits, values = os.path.join(first, "logits.h5"), {}
    subprocess.run([qtape, "eval", os.path.join(first, "one"), "--out", logits], check=True, stdout=subprocess.DEVNULL)
    with h5py.File(os.path.join(first, "one", "ckpt", "last.h5"), "r") as f:
        f["params"].visititems(lambda name, o: values.update({name: o[()]}) if isinstance(o, h5py.Dataset) else None)
    with h5py.File(logits, "r") as f:
        want = f["logits"][()]
    with open(text, "rb") as f:
        ids = np.frombuffer(f.read()[-len(want) - 1:-1], np.uint8).astype(np.int64)
    n = len(want) // TOKENS
    torch.set_default_dtype(real)
    net = torch_nets.build("llama", arm, form)
    torch_nets.load(net, values)
    with torch.no_grad():
        got = net.eval()(torch.from_numpy(ids[:n * TOKENS].reshape(n, TOKENS))).numpy()
    want = want[:n * TOKENS].reshape(got.shape)
    return np.abs(got - want).max(axis=(1, 2)) / np.abs(want).max()


def limits(arm, double):
    """Of the median and worst difference of the logits and that of the losses. In double precision the two agree to the digits that the
    files hold. In float a sum that lies on the edge between two codes may fall to either side, in each library by itself, and all that
    follows moves a little; so only the first loss is compared there, for steps make more of such differences."""
    if double:
        return 1e-6, 1e-6, 1e-7
    return (1e-5, 1e-4, 1e-5) if arm == "fp32" else (1e-2, 1e-1, 1e-2)


def check(a):
    import numpy as np
    import torch
    bad, double = 0, a.qtape + "-f64"
    programs = [(a.qtape, torch.float32)] + ([(double, torch.float64)] if os.path.exists(double) else [])
    if len(programs) == 1:
        print("no %s: checked in float only" % double)
    with tempfile.TemporaryDirectory() as folder:
        for net in a.net:
            for arm in a.arm:
                for qtape, real in programs:
                    for form, optim in itertools.product(forms_of(arm, a), a.optim):
                        if form == "fused" and real == torch.float64:
                            continue
                        if net == "llama":
                            if arm == "lsq-w4a4" or optim != a.optim[0]:
                                continue
                            logits, loss = check_text(qtape, arm, form, real, folder), 0
                        else:
                            logits, loss = check_one(qtape, net, arm, form, optim, real, folder)
                        median, worst = np.median(logits), logits.max()
                        ok = all(v < limit for v, limit in zip((median, worst, loss), limits(arm, real == torch.float64)))
                        bad += not ok
                        print("%-8s %-9s %-8s %-4s %-6s  logits: median %.1e, worst %.1e   losses: %.1e   %s" % (
                            net, arm, form, optim, "double" if real == torch.float64 else "float", median, worst, loss, "ok" if ok else "DIFFER"), flush=True)
    return 1 if bad else 0


# ---- command line -------------------------------------------------------------------------------------------------------------------

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("net", nargs="*", default=list(NETS), help="of %s (default: all)" % ", ".join(NETS))
    p.add_argument("--qtape", default="build/qtape", help="the program (default: build/qtape); --check also runs QTAPE-f64")
    p.add_argument("--check", action="store_true", help="compare results instead of times; fails if they differ")
    p.add_argument("--arm", action="append", choices=ARMS, help="may be repeated (default: all)")
    p.add_argument("--batch", action="append", type=int, help="may be repeated (default: 64 and 256)")
    p.add_argument("--optim", action="append", choices=("sgd", "adam"), help="may be repeated (default: both)")
    p.add_argument("--form", action="append", choices=("function", "ops", "fused"), help="only these of PyTorch's forms (default: function, ops)")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.5, help="of a block")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--quick", action="store_true", help="batch 64, 2 rounds of short blocks")
    p.add_argument("--any-blas", action="store_true", help="measure even if PyTorch's BLAS is a slow one")
    p.add_argument("--markdown", action="store_true", help="rows of a table")
    p.add_argument("--json", help="write the results to this file too, a line each")
    a = p.parse_args()
    for net in a.net:
        if net not in NETS:
            p.error("unknown network %r" % net)
    if a.quick:
        a.rounds, a.seconds, a.batch, a.optim = 2, 0.6, a.batch or [64], a.optim or ["sgd"]
    a.arm, a.batch, a.optim = a.arm or list(ARMS), a.batch or [64, 256], a.optim or ["sgd", "adam"]
    a.qtape = os.path.abspath(a.qtape)
    if not os.path.exists(a.qtape):
        p.error("no %s; build it, or say --qtape FILE" % a.qtape)
    return check(a) if a.check else compare(a)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        sys.exit(main())
