#!/usr/bin/env python3
"""Generation with packed ternary weights, beside an unmodified llama.cpp on the same model: a random model is exported in both formats (h5, and
gguf of type TQ2_0), then both decode one token after the other, in turns. Medians of tokens a second, and the ratio. What both need before and
behind the tokens is taken off: the time of a short text is subtracted from that of a long one. With one thread it is time of the CPU, which
other processes disturb less.

    cmake --build --preset release && bench/generate.py [threads] [d_model] [n_layer]

llama.cpp is looked for as tests/oracle/llama.sh does it. Attention has n_head = d_model / 64 heads, the feed-forward part 4 d_model numbers.
"""
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUNDS, SHORT, LONG = 5, 20, 220
threads, d, layers = (int(v) for v in (sys.argv[1:] + ["1", "512", "8"][len(sys.argv) - 1:]))

RECIPE = f"""recipe: 1
name: random
model: {{arch: bitnet, d_model: {d}, n_layer: {layers}, n_head: {d // 64}, d_ff: {4 * d}, fp16: true}}
data: {{use: text, path: text.txt, seq_len: 256, batch_size: 1, test_fraction: 0.1}}
quant:
  - {{match: "blk.*", weights: {{use: ternary, scale_grid: fp16}}, activations: ACTIVATIONS}}
optim: {{use: sgd, lr: 1e-9}}
train: {{steps: 1, eval_every: 0}}
"""


def run(*words, quiet=True):
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if quiet else None)


def seconds(*words):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.monotonic()
    run(*words)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before if threads == 1 else time.monotonic() - start


def main():
    qtape = ROOT / "build/qtape"
    libraries = subprocess.run([ROOT / "tests/oracle/llama.sh", "--dir"], capture_output=True, text=True).stdout.strip()
    if not libraries:
        sys.exit("there is no llama.cpp here; see tests/oracle/llama.sh")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pathlib.Path("text.txt").write_text((ROOT / "README.md").read_text()[:6000])
        pathlib.Path("r.yaml").write_text(RECIPE.replace("ACTIVATIONS", "{use: q8_k}" if has_q8_k(qtape) else "{use: int, num_bits: 8, granularity: token}"))
        run(qtape, "train", "r.yaml", "--run", "run", "--quiet", quiet=False)
        run(qtape, "export", "run", "--format", "h5", "-o", "m.h5")
        run(qtape, "export", "run", "--format", "gguf", "type=TQ2_0", "-o", "m.gguf")
        run("cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-o", "decode", ROOT / "bench/llama/decode.c", "-ldl", "-lm")
        ours = lambda n: seconds(qtape, "generate", "m.h5", "--prompt", "a", "--temperature", 0, "--tokens", n, "--threads", threads, "--quiet")
        theirs = lambda n: seconds("./decode", libraries, "m.gguf", threads, n)
        rates = {"qtape": [], "llama.cpp": []}
        for _ in range(ROUNDS):
            for name, decode in (("qtape", ours), ("llama.cpp", theirs)):
                rates[name].append((LONG - SHORT) / (decode(LONG) - decode(SHORT)))
    a, b = (statistics.median(rates[name]) for name in rates)
    print(f"d_model {d}, {layers} layers, {threads} thread{'s' * (threads > 1)}: qtape {a:.0f} tokens/s, llama.cpp {b:.0f} tokens/s, ratio {a / b:.2f}")


def has_q8_k(qtape):
    return " q8_k" in subprocess.run([qtape, "list", "quants"], capture_output=True, text=True).stdout.replace("\n", " ")


main()
