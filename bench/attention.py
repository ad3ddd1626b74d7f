#!/usr/bin/python3
"""Attention, forward and backward, beside PyTorch's three operations (scores, softmax, product) and, in newer versions, its fused one: runs of
build/bench_attention and of PyTorch in turns; medians of their best times, and the ratio. With one thread it is time of the CPU, which other
processes disturb less.

    LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp /usr/bin/python3 bench/attention.py [threads]
"""
import math
import re
import statistics
import subprocess
import sys
import time

import torch

CASES = [(16, 128, 4, 32), (16, 128, 4, 16), (4, 512, 4, 64)]  # batch, tokens, heads, numbers a head
ROUNDS, CALLS = 5, 8


def with_torch(B, T, H, D):
    q, k, v = (torch.randn(B, T, H * D, requires_grad=True) for _ in range(3))
    dy, mask = torch.randn(B, T, H * D), torch.full((T, T), -math.inf).triu(1)

    def attention():
        a, b, c = (x.view(B, T, H, D).transpose(1, 2) for x in (q, k, v))
        if hasattr(torch.nn.functional, "scaled_dot_product_attention"):
            y = torch.nn.functional.scaled_dot_product_attention(a, b, c, is_causal=True)
        else:
            y = torch.softmax(a @ b.transpose(-1, -2) / math.sqrt(D) + mask, -1) @ c
        return y.transpose(1, 2).reshape(B, T, H * D)

    best = math.inf
    for _ in range(CALLS):
        q.grad = k.grad = v.grad = None
        start = now()
        attention().backward(dy)
        best = min(best, now() - start)
    return best * 1e3


def with_qtape(B, T, H, D, threads):
    line = subprocess.run(["build/bench_attention", *map(str, (B, T, H, H, D, 1, threads, CALLS))], check=True, capture_output=True, text=True).stdout
    return sum(float(x) for x in re.findall(r"(?:forward|backward) ([\d.]+) ms", line))


threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
torch.set_num_threads(threads)
now = time.process_time if threads == 1 else time.perf_counter
for case in CASES:
    pairs = [(with_qtape(*case, threads), with_torch(*case)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(x) for x in zip(*pairs))
    print("B %d T %d H %d D %d: qtape %.2f ms, PyTorch %s %.2f ms, ratio %.2f" % (*case, ours, torch.__version__, theirs, theirs / ours), flush=True)
