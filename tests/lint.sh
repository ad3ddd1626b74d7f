#!/bin/sh
# The house rules that a program can check. Prints each breach and fails if there is any.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
report() { [ -z "$1" ] || { printf '%s\n' "$1" | sed 's/^/lint: /'; failed=1; }; }
# Files of the project: those under version control, or all where there is none.
files() { git ls-files -- "$@" 2> /dev/null | grep . || find "$@" -type f; }

# A file includes only from its own row of the tree and from the rows above; qat, optim and datasets do not know each other.
report "$(files src datasets | awk '
    BEGIN {
        n = split("base:0 kernels:0 autograd:1 ops:2 qat:3 optim:3 datasets:3 nn:4 train:5 export:6 report:7 cli:8", pairs, " ")
        for (i = 1; i <= n; i++) { split(pairs[i], p, ":"); row[p[1]] = p[2] }
    }
    /\.[ch]$/ {
        file = dir = $0
        sub(/^src\//, "", dir); sub(/\/.*/, "", dir)
        while ((getline line < file) > 0) {
            if (line !~ /^#include "/) continue
            name = line; sub(/^#include "/, "", name); sub(/".*/, "", name)
            target = name ~ /\// ? name : "datasets"
            sub(/\/.*/, "", target)
            if (name == "qtape.h" || target == "qtape") continue
            if (!(target in row)) print file ": includes \"" name "\" of no known row"
            else if (row[target] > row[dir]) print file ": includes \"" name "\" from a row below its own"
            else if (row[target] == 3 && row[dir] == 3 && target != dir) print file ": includes \"" name "\" of a sibling"
        }
        close(file)
    }')"

# Every descriptor and every field says what it is.
for kind in ops quants layers losses metrics optims schedules datasets phases steppers exporters codecs regularizers commands; do
    report "$("$QTAPE_BIN" list $kind --json | grep -E '"doc": (null|"")' | cut -c1-100 | sed "s/^/$kind without doc: /")"
done

# Files that can be read in one sitting; the embedded digits are data.
report "$(files src include datasets tests examples | grep -E '\.(c|h|sh)$' | grep -v '^datasets/digits.h$' | xargs wc -l |
    awk '$2 != "total" && $1 > 700 {print $2 ": " $1 " lines, more than 700"}')"

# The project stands alone and is finished.
report "$(git grep -nIE '\.\./[s]hared|\.[l]ibrary/|/[w]ork/|[T]ODO|[F]IXME|\<[X]XX\>' -- . 2> /dev/null | cut -c1-160)"

# The shared library exports what qtape.h declares, and nothing else.
lib=$QTAPE_BUILD/libqtape.so
if [ -e "$lib" ] && command -v nm > /dev/null; then
    for symbol in $(nm -D --defined-only "$lib" | awk '$3 !~ /^(\.gomp|__asan|__odr_asan|_init$|_fini$)/ {print $3}'); do
        grep -qE "QT_OP\(${symbol#qt_},|[ *]$symbol\(" include/qtape.h src/ops/ops.def || report "$lib exports $symbol, which qtape.h does not declare"
    done
fi

# The reference is what the descriptors say.
scripts/reference.sh "$QTAPE_BIN" | cmp -s - docs/reference.md || report "docs/reference.md is old: scripts/reference.sh $QTAPE_BIN > docs/reference.md"

# So is the table of features, whose recipes and tests exist.
report "$(scripts/features.sh "$QTAPE_BIN" 2>&1 > /dev/null)"
scripts/features.sh "$QTAPE_BIN" 2> /dev/null | cmp -s - docs/features.md || report "docs/features.md is old: scripts/features.sh $QTAPE_BIN > docs/features.md"

[ $failed = 0 ] && echo "lint: all rules hold"
exit $failed
