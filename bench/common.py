"""What the scripts here share: data, and training runs of qtape whose speed is read from metrics.jsonl."""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
WINDOW = 0.5  # seconds: a rate is a mean over at least so much time

DATA = """
import sys, h5py, numpy as np
r = np.random.default_rng(1)
with h5py.File(sys.argv[1], "w") as f:
    for split, n in (("train", int(sys.argv[2])), ("test", 64)):
        f[split + "/x"] = r.random((n, 1, 28, 28), dtype=np.float32)
        f[split + "/y"] = r.integers(0, 10, n).astype(np.int32)
"""


def make_data(file, train):
    """Random images 1x28x28 in 10 classes. In a process of its own: what this one holds in memory would count as its children's."""
    subprocess.run([sys.executable, "-c", DATA, file, str(train)], check=True)
    return file


def make_text(file, bytes):
    """Random lower-case letters."""
    import random
    random.seed(1)
    with open(file, "w") as f:
        f.write("".join(random.choices("abcdefghijklmnopqrstuvwxyz    ", k=bytes)))
    return file


def recipe(net):
    return os.path.join(HERE, "recipes", net + ".yaml")


def optim_words(name):
    return ["optim.use=adam", "optim.lr=1e-3", "~optim.momentum"] if name == "adam" else []


def cost(qtape, net, arm, words):
    """Layers of a recipe as `qtape show --cost` lists them: (kind, numbers of its output, parameters, multiply-adds, bits of weights)."""
    command = [qtape, "show", recipe(net), "--cost", "--arm", arm] + words
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    layers = []
    for kind, shape, parameters, adds, bits in re.findall(r"^# \S+ +(\S+) +\[([\d, ]+)\] +(\d+) +(\d+) +(\S+)", text, re.M):
        n = 1
        for d in shape.split(","):
            n *= int(d)
        layers.append((kind, n, int(parameters), int(adds), 0 if bits == "-" else float(bits)))
    return layers


def first_gradient(layers, arm):
    """Whether something in front of the first weights is trained (a norm, the step of a quantizer), so that their input has a gradient."""
    return arm.startswith("lsq") or any(parameters for _, _, parameters, adds, _ in layers[:[bool(layer[3]) for layer in layers].index(True)])


def train(qtape, net, arm, words, steps, threads, log_every, run):
    """One training run; the lines of its metrics."""
    command = [qtape, "train", recipe(net), "--arm", arm, "train.steps=%d" % steps, "train.log_every=%d" % log_every] + words
    done = subprocess.run(command + ["--threads", str(threads), "--run", run, "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("%s\n%s" % (" ".join(command), done.stderr))
    with open(os.path.join(run, "metrics.jsonl")) as f:
        return [json.loads(line) for line in f]


def windows(lines):
    """Rates of whole windows: qtape gives the rate of its last half second of steps (loading included, evaluation not). The first is that
    of the first step, the second that of the first half second; both are warm-up. A run too short for more gives its mean."""
    key = "tokens_per_s" if "tokens_per_s" in lines[-1] else "samples_per_s"
    rates = []
    for m in lines:
        if m["event"] == "step" and (not rates or m[key] != rates[-1]):
            rates.append(m[key])
    return rates[2:] or [lines[-1][key]]


class Qtape:
    """Runs of one arm at one batch size; knows from the last how many steps fill a given time. tokens: of a text, which are what rates count;
    0 where a sample is an image."""

    def __init__(self, qtape, net, arm, words, batch, threads, tokens=0):
        self.qtape, self.net, self.arm, self.batch, self.threads = qtape, net, arm, batch * (tokens or 1), threads
        self.words, self.rates, self.rss, self.rate = words + ["data.batch_size=%d" % batch], [], 0, None

    def run(self, seconds):
        """Rates of one run; the first call runs three times, for the speed is not known before."""
        if not self.rate:
            self.rate = self.once(3 if self.batch > 64 else 10)[0][-1]
            self.rate = self.once(int(self.rate * WINDOW / self.batch) + 3)[0][-1]
        rates, self.rss = self.once(int(self.rate * (seconds + 2 * WINDOW) / self.batch) + 3)
        self.rate = rates[-1]
        self.rates += rates
        return rates

    def once(self, steps):
        every = max(1, int((self.rate or 0) * WINDOW / 4 / self.batch))
        with tempfile.TemporaryDirectory() as folder:
            lines = train(self.qtape, self.net, self.arm, self.words, steps, self.threads, every, os.path.join(folder, "run"))
        return windows(lines), lines[-1]["peak_rss_mb"]
