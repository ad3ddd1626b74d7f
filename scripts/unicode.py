#!/usr/bin/env python3
"""Writes src/base/unicode.h: which characters are letters (general category L), digits (N) or white space. The version of Unicode is 15.1, as in
llama.cpp's tokenizer; needs the Python package unicodedata2 of that version.

    scripts/unicode.py > src/base/unicode.h
"""
import itertools

import unicodedata2

assert unicodedata2.unidata_version == "15.1.0"
SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}  # property White_Space


def kind(c):
    return 3 if c in SPACE else {"L": 1, "N": 2}.get(unicodedata2.category(chr(c))[0], 0)


runs = [(k, next(g)) for k, g in itertools.groupby(range(0x110000), kind)]
print(f"""/* Kinds of characters in Unicode 15.1: made by scripts/unicode.py. Each number is where a run of one kind begins, times 4, and its kind: 1 a letter
 * (general category L), 2 a digit (N), 3 white space (White_Space), 0 all else. */
#ifndef QT_BASE_UNICODE_H
#define QT_BASE_UNICODE_H
#include <stdint.h>

enum {{ QT_UNICODE_RUNS = {len(runs)} }};
static const uint32_t qt_unicode_run[QT_UNICODE_RUNS] = {{""")
line = "   "
for k, c in runs:
    word = f" {4 * c + k},"
    if len(line) + len(word) > 150:
        print(line)
        line = "   "
    line += word
print(line.rstrip(",") + "};\n")
print("""/* Kind of a character, by bisection. */
static inline int qt_unicode_kind(uint32_t c)
{
    int low = 0, high = QT_UNICODE_RUNS;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (qt_unicode_run[middle] / 4 <= c) low = middle;
        else high = middle;
    }
    return (int)(qt_unicode_run[low] % 4);
}
#endif""")
