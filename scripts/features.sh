#!/bin/sh
# Prints docs/features.md: the rows of docs/features.txt, each with its descriptors, recipes and tests. Fails, naming them, where one of these
# does not exist: a descriptor that the program does not list, a recipe that does not hold the word, a test function that is not there.
#   scripts/features.sh [PROGRAM] > docs/features.md
qtape=${1:-build/qtape}
cd "$(dirname "$0")/.." || exit 1
known=$(for kind in quants layers phases steppers exporters codecs regularizers; do "$qtape" list $kind | sed "s|^\([a-z0-9_]*\).*|$kind/\1|"; done)
bad=0
miss() { echo "docs/features.txt: row $row: $1" >&2; bad=1; }
cell() { printf '%s' "$line" | cut -d'|' -f"$1" | sed 's/^ *//; s/ *$//'; }

cat << 'END'
# Features

Made by `scripts/features.sh` from [features.txt](features.txt), in the order of Gholami et al., "A Survey of Quantization Methods for Efficient Neural Network
Inference" (arXiv 2103.13630). A row is covered if a recipe shows what is built and a test asserts
it; each of the names below is checked to exist. What the survey has and qtape has not stands in the last column.
END
while IFS= read -r line; do
    case $line in
        '#'*) continue ;;
        '='*) printf '\n## %s\n\n| | what | built | recipes | tests | not here |\n| --: | --- | --- | --- | --- | --- |\n' "${line#= }"; continue ;;
    esac
    row=$(cell 1) built='' recipes='' tests=''
    for d in $(cell 3); do
        echo "$known" | grep -qx "$d" || miss "no descriptor $d"
        built="$built${built:+, }\`${d#*/}\`"
    done
    for r in $(cell 4); do
        file=recipes/${r%:*}.yaml link=../recipes/${r%:*}.yaml
        grep -q "${r#*:}" "$file" 2> /dev/null || miss "$file does not hold '${r#*:}'"
        case $recipes in *"($link)"*) ;; *) recipes="$recipes${recipes:+, }[${r%:*}]($link)" ;; esac
    done
    for t in $(cell 5); do
        file=tests/${t%:*}.c
        grep -q "^static void ${t#*:}(" "$file" 2> /dev/null || miss "$file has no ${t#*:}"
        tests="$tests${tests:+, }\`${t%:*}\` ${t#*:test_}"
    done
    [ -n "$recipes" ] && [ -n "$tests" ] || row="$row (not covered)"
    printf '| %s | %s | %s | %s | %s | %s |\n' "$row" "$(cell 2)" "$built" "$recipes" "$tests" "$(cell 6)"
done < docs/features.txt
exit $bad
