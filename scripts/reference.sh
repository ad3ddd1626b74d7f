#!/bin/sh
# Prints docs/reference.md: every descriptor with its fields, as the program knows them.
#   scripts/reference.sh [PROGRAM] > docs/reference.md
qtape=${1:-build/qtape}
printf '# Reference\n\nMade by `scripts/reference.sh` from the descriptors; `qtape list KIND NAME` prints the same, `qtape explain KIND NAME` adds the formulas.\n'
for kind in layers losses metrics quants optims schedules datasets phases steppers exporters codecs regularizers ops commands; do
    printf '\n## %s\n' $kind
    "$qtape" list $kind | while read -r name rest; do
        printf '\n### %s\n```text\n' "$name"
        "$qtape" list $kind "$name"
        printf '```\n'
    done
done
