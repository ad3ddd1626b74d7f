#!/usr/bin/env python3
"""Runs the commands in docs/results/performance.md and puts what they print in place.

    bench/tables.py [WORD ...]      only commands that have one of the words; --list shows them

A table stands between <!-- run: COMMAND --> and <!-- end -->; commands run in the project's root, and one that fails leaves its table alone."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILE = os.path.join(ROOT, "docs", "results", "performance.md")
BLOCK = re.compile(r"(<!-- run: (.*?) -->\n).*?(<!-- end -->)", re.S)


def fill(block, words):
    command = block.group(2)
    if words and not any(w in command for w in words):
        return block.group(0)
    print(command, file=sys.stderr, flush=True)
    done = subprocess.run(command, shell=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print("failed (%d)" % done.returncode, file=sys.stderr)
        return block.group(0)
    text = done.stdout.strip()
    if "\n|" not in "\n" + text:
        text = "```text\n" + text + "\n```"
    return block.group(1) + "\n" + text + "\n\n" + block.group(3)


def main():
    with open(FILE) as f:
        text = f.read()
    if sys.argv[1:2] == ["--list"]:
        return print("\n".join(m.group(2) for m in BLOCK.finditer(text)))
    for at in range(len(BLOCK.findall(text))):  # written after each command, so that nothing measured is lost
        block = list(BLOCK.finditer(text))[at]
        new = fill(block, sys.argv[1:])
        text = text[:block.start()] + new + text[block.end():]
        with open(FILE, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
