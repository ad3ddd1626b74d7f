#!/bin/bash
# README, the pages on deployment and reports, CONTRIBUTING and the tutorials hold: every `qtape` line of their sh blocks is run, in order, over the
# recipes that their yaml blocks contain; the C examples of CONTRIBUTING compile; links lead somewhere.
set -u
cd "$QTAPE_SOURCE" || exit 1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
data=${QTAPE_DATA-}
say() { echo "$*"; failed=1; }
export PATH=$(dirname "$QTAPE_BIN"):$PATH

# blocks FILE KIND: writes each block of a kind to $tmp/blocks/N
blocks()
{
    rm -rf "$tmp/blocks" && mkdir "$tmp/blocks"
    awk -v kind="$2" -v out="$tmp/blocks/" '
        /^```/ { inside = !inside; if (inside) { on = $1 == "```" kind; n += on; head = $2 } ; if (on && inside && head) print head > (out n ".file"); next }
        inside && on { print > (out n) }' "$1"
}

# ---- commands. reproduce becomes check where it would train for minutes; all other commands run as they stand.
for doc in README.md docs/deployment.md docs/reports.md docs/tutorials/*.md; do
    mkdir -p "$tmp/run" && cp -r recipes "$tmp/run/"
    blocks "$doc" yaml
    for b in "$tmp"/blocks/*; do
        [ -e "$b" ] || continue
        name=$(sed -n '1s/^# \([a-z-]*\.yaml\)$/\1/p' "$b")
        [ -n "$name" ] && cp "$b" "$tmp/run/$name"
    done
    blocks "$doc" sh
    for b in $(ls "$tmp/blocks" | sort -n); do
        while read -r line; do
            case $line in
                'qtape reproduce recipes/'*) line="qtape check ${line#qtape reproduce }" ;;
                'qtape data get kjv') # another text takes its place, for nothing is fetched here
                    export QTAPE_DATA=$tmp/data; mkdir -p "$tmp/data/kjv"
                    cat docs/*.md > "$tmp/data/kjv/kjv.txt"; continue ;;
                'qtape train recipes/llm/'*) line="$line train.steps=6" ;;
                qtape\ * | printf\ * | awk\ *) ;;
                'python3 scripts/'*) command -v python3 > /dev/null || continue; line="python3 '$QTAPE_SOURCE'/${line#python3 }" ;;
                ./setup.sh | ./test.sh) [ -x "$line" ] || say "$doc: $line is not there"; continue ;;
                cmake\ * | /tmp/*) continue ;; # tests/install.sh does this
                *) say "$doc: no test knows the command: $line"; continue ;;
            esac
            (cd "$tmp/run" && eval "$line") > "$tmp/log" 2>&1 || { say "$doc: failed: $line"; cat "$tmp/log"; }
        done < "$tmp/blocks/$b"
    done
    rm -rf "$tmp/run"
    unset QTAPE_DATA
    [ -n "$data" ] && export QTAPE_DATA=$data
done

# ---- the four examples of CONTRIBUTING: their lines are added to the lists, their files to the tree, all of it is compiled
mkdir "$tmp/tree" && cp -r src datasets include "$tmp/tree/" && mkdir "$tmp/tree/include/qtape"
blocks CONTRIBUTING.md def
for b in "$tmp"/blocks/*.file; do cat "${b%.file}" >> "$tmp/tree/$(cat "$b")"; done
cp "$tmp/tree/src/ops/ops.def" "$tmp/tree/include/qtape/"
blocks CONTRIBUTING.md c
n=0
for b in "$tmp"/blocks/*; do
    file=$(sed -n '1s/^\/\* \([a-z/_0-9]*\.c\):.*/\1/p' "$b")
    [ -n "$file" ] || { say "CONTRIBUTING.md: a C example does not begin with its file name"; continue; }
    cp "$b" "$tmp/tree/$file"
    (cd "$tmp/tree" && ${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-unknown-pragmas -fsyntax-only \
        -Iinclude -Isrc -Idatasets "$file") || say "CONTRIBUTING.md: $file does not compile"
    n=$((n + 1))
done
[ $n = 4 ] || say "CONTRIBUTING.md: expected 4 C examples, found $n"

# ---- links
for doc in README.md CONTRIBUTING.md docs/*.md docs/tutorials/*.md; do
    for link in $(grep -oE '\]\([^)#]+' "$doc" | sed 's/](//' | grep -v '^http'); do
        [ -e "$(dirname "$doc")/$link" ] || say "$doc: the link $link leads nowhere"
    done
done

[ $failed = 0 ] && echo 'documents: every command, example and link holds'
exit $failed
