"""Golden byte pair encoding: writes bpe.h beside it. Words come from one loop over characters and their Unicode categories; training counts all pairs anew for each merge;
encoding applies the merges one after the other to the whole word. Nothing here is fast, and nothing is shared with qtape.

    python3 tests/golden/bpe.py
"""
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE.parent.parent / "recipes/smoke/data/text.txt"
VOCAB = 420
SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
SAMPLES = [
    b"", b" ", b"a", b"the tape", b"The tape's arena, they'll say: it's 42.", b"  two  spaces \n\n\nand lines\t\tand tabs \n", b"aaaaaaaaaaaaaaaaaaaaaaaaa",
    "Überlänge — naïve “quotes”, 日本語、２３½ 🎉🎉 e\u0301 x\u00a0y\u2003\u2003z \u3000 мир٣٤".encode(), b"\xff\xfea \xe2\x82 b\xed\xa0\x80c\xc3", b"one\0two \0 three\n\0\n", b"x = y ** 2 + 1e-3;  // don't 'd 're", b"12345678901234567890 3.14",
    b"\r\n \x0b\x0c\x1c end   ", bytes(range(256)), b"quantizer quantizers quantization" * 3,
]


def kind(c):
    if c == "\0":
        return "end"
    if ord(c) in SPACE:
        return "space"
    category = unicodedata.category(c)[0]
    return category if category in "LN" else "other"  # what is not UTF-8 stands as a lone surrogate, category Cs


def words_of(text):
    s = text.decode("utf-8", "surrogateescape")
    out, at = [], 0
    while at < len(s):
        n = 1
        contraction = next((c for c in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if s.startswith(c, at)), None)
        first = at + (s[at] == " ")
        if contraction:
            n = len(contraction)
        elif s[at] != "\0" and first < len(s) and kind(s[first]) not in ("space", "end"):
            stop = first
            while stop < len(s) and kind(s[stop]) == kind(s[first]):
                stop += 1
            n = stop - at
        elif s[at] != "\0":
            stop = at
            while stop < len(s) and kind(s[stop]) == "space":
                stop += 1
            n = stop - at
            if n > 1 and stop < len(s) and s[stop] != "\0":
                n -= 1
        out.append(s[at:at + n].encode("utf-8", "surrogateescape"))
        at += n
    return out


def train(text, vocab):
    words = Counter(w for w in words_of(text) if w != b"\0" and len(w) <= 256)
    split = {w: list(w) for w in words}
    merges = []
    while 256 + len(merges) < vocab:
        pairs = Counter()
        for w, s in split.items():
            for pair in zip(s, s[1:]):
                pairs[pair] += words[w]
        best = min(pairs, key=lambda p: (-pairs[p], p))
        assert pairs[best] > 1
        for s in split.values():
            join(s, best, 256 + len(merges))
        merges.append(best)
    return merges


def join(s, pair, token):
    i = 0
    while i + 1 < len(s):
        if (s[i], s[i + 1]) == pair:
            s[i:i + 2] = [token]
        i += 1


def encode(text, merges):
    ids = []
    for w in words_of(text):
        s = list(w)
        for k, pair in enumerate(merges):
            join(s, pair, 256 + k)
        ids += s
    return ids


def array(kind, name, values):
    lines, line = [], "   "
    for v in values:
        if len(line) + len(str(v)) > 140:
            lines.append(line)
            line = "   "
        line += f" {v},"
    return f"static const {kind} {name}[] = {{\n" + "\n".join(lines + [line.rstrip(',')]) + "};\n"


text = CORPUS.read_bytes()
assert b"".join(words_of(text)) == text and all(b"".join(words_of(s)) == s for s in SAMPLES)
merges = train(text, VOCAB)
cache = {}
whole = []
for w in words_of(text):
    if w not in cache:
        cache[w] = encode(w, merges)
    whole += cache[w]
bytes_of = b"".join(i.to_bytes(2, "little") for i in whole)
encoded = [encode(s, merges) for s in SAMPLES]
with open(HERE / "bpe.h", "w") as f:
    f.write("/* A vocabulary of recipes/smoke/data/text.txt and what it makes of texts: made by tests/golden/bpe.py. */\n#include <stdint.h>\n\n")
    f.write(array("int32_t", "golden_merges", [i for m in merges for i in m]))
    f.write(f"/* All of the text: tokens, and the CRC-32 of them as 16-bit numbers, little-endian. */\nenum {{ GOLDEN_TOKENS = {len(whole)} }};\n")
    f.write(f"static const uint32_t golden_crc = 0x{zlib.crc32(bytes_of):08x};\n")
    f.write("/* Samples one after the other: bytes and tokens of each, all bytes, all tokens. */\n")
    f.write(array("int32_t", "golden_sizes", [n for s, e in zip(SAMPLES, encoded) for n in (len(s), len(e))]))
    f.write(array("uint8_t", "golden_bytes", [b for s in SAMPLES for b in s]))
    f.write(array("int32_t", "golden_ids", [i for e in encoded for i in e]))
