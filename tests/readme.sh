#!/bin/bash
# README, the pages on deployment and reports, CONTRIBUTING and the tutorials hold: every `qtape` line of their sh blocks is run, in order, over the
# recipes that their yaml blocks contain; the lines of a block "text printed" are among those that the sh block before it printed; the C examples of
# CONTRIBUTING compile; those of a tutorial are built into a program that runs its commands; links lead somewhere; quoted lines are where they are said to be.
set -u
cd "$QTAPE_SOURCE" || exit 1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
data=${QTAPE_DATA-}
say() { echo "$*"; failed=1; }
export PATH=$(dirname "$QTAPE_BIN"):$PATH

# blocks FILE KIND: writes each block of a kind to $tmp/blocks/N, and the word behind the kind to N.file; with sh also what is said to be printed
blocks()
{
    rm -rf "$tmp/blocks" && mkdir "$tmp/blocks"
    awk -v kind="$2" -v out="$tmp/blocks/" '
        /^```/ { inside = !inside; if (inside) { on = $1 == "```" kind || (kind == "sh" && $0 == "```text printed"); n += on; head = $2 } ; if (on && inside && head) print head > (out n ".file"); next }
        inside && on { print > (out n) }' "$1"
}

# grow FILE: a tree of the sources with the def and c blocks of a page in it, each of which is compiled; n is the number of C examples
grow()
{
    rm -rf "$tmp/tree" && mkdir -p "$tmp/tree/include/qtape" && cp -r src datasets include tests "$tmp/tree/"
    blocks "$1" def
    for b in "$tmp"/blocks/*.file; do [ -e "$b" ] && cat "${b%.file}" >> "$tmp/tree/$(cat "$b")"; done
    cp "$tmp/tree/src/ops/ops.def" "$tmp/tree/include/qtape/"
    blocks "$1" c
    n=0
    for b in "$tmp"/blocks/*; do
        [ -e "$b" ] || continue
        file=$(sed -n '1s/^\/\* \([a-z/_0-9]*\.c\):.*/\1/p' "$b")
        [ -n "$file" ] || { say "$1: a C example does not begin with its file name"; continue; }
        cp "$b" "$tmp/tree/$file"
        compile -fsyntax-only "$file" || say "$1: $file does not compile"
        n=$((n + 1))
    done
}
compiler=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$QTAPE_BUILD/CMakeCache.txt")
sanitize=$(grep -q '^QTAPE_SANITIZE:BOOL=ON' "$QTAPE_BUILD/CMakeCache.txt" && echo -fsanitize=address,undefined)
compile()
{
    (cd "$tmp/tree" && ${CC:-$compiler} -std=c11 -D_GNU_SOURCE -O1 -ffp-contract=off -fno-math-errno -fopenmp $sanitize -Wall -Wextra -Werror \
        -Wno-missing-field-initializers -Iinclude -Isrc -Idatasets -Itests "$@")
}

# build FILE: the program and test_quants with what a page adds to lists of src, in $tmp/bin; all else comes from the build
build()
{
    grow "$1"
    mkdir "$tmp/bin"
    awk -v root="$tmp/tree" -f cmake/heads.awk $(find "$tmp/tree/src" "$tmp/tree/datasets" -name '*.c') > "$tmp/tree/heads.c"
    blocks "$1" def
    new="heads.c $(sed -n 's/\(^src.*\)\.def$/\1.c/p' "$tmp"/blocks/*.file)"
    blocks "$1" c
    new="$new $(sed -s -n '1s/^\/\* \([a-z/_0-9]*\.c\):.*/\1/p' "$tmp"/blocks/*)"
    libs="$QTAPE_BUILD/libqtape.a $(pkg-config --libs openblas hdf5-serial yaml-0.1 zlib cmocka) -lpthread -lm"
    compile -o "$tmp/bin/qtape" $new "$QTAPE_BUILD"/CMakeFiles/qtape_cli.dir/src/cli/*.o $libs || say "$1: the program cannot be built"
    compile -o "$tmp/bin/test_quants" $new tests/test_quants.c $libs || say "$1: test_quants cannot be built"
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
    rm -rf "$tmp/bin" && grep -q '^```def src/' "$doc" && build "$doc"
    blocks "$doc" sh
    for b in $(ls "$tmp/blocks" | grep -v file | sort -n); do
        if [ "$(cat "$tmp/blocks/$b.file" 2> /dev/null)" = printed ]; then
            while read -r line; do
                [ "$line" = ... ] || sed 's/^ *//' "$tmp/printed" | grep -qxF -- "$line" || say "$doc: not printed: $line"
            done < "$tmp/blocks/$b"
            continue
        fi
        : > "$tmp/printed"
        while read -r line; do
            case $line in
                'qtape reproduce recipes/'*) line="qtape check ${line#qtape reproduce }" ;;
                'qtape data get kjv') # another text takes its place, for nothing is fetched here
                    export QTAPE_DATA=$tmp/data; mkdir -p "$tmp/data/kjv"
                    cat docs/*.md > "$tmp/data/kjv/kjv.txt"; continue ;;
                'qtape train recipes/llm/'*) line="$line train.steps=6" ;;
                qtape\ * | printf\ * | awk\ * | cmp\ *) ;;
                'python3 scripts/'*) command -v python3 > /dev/null || continue; line="python3 '$QTAPE_SOURCE'/${line#python3 }" ;;
                ./setup.sh | ./test.sh) [ -x "$line" ] || say "$doc: $line is not there"; continue ;;
                cmake\ * | /tmp/*) continue ;; # tests/install.sh does this
                'ctest --preset test -R test_quants') line=test_quants ;;
                *) say "$doc: no test knows the command: $line"; continue ;;
            esac
            (cd "$tmp/run" && PATH=$tmp/bin:$PATH && eval "$line") > "$tmp/log" 2>&1 || { say "$doc: failed: $line"; cat "$tmp/log"; }
            cat "$tmp/log" >> "$tmp/printed"
        done < "$tmp/blocks/$b"
    done
    rm -rf "$tmp/run"
    unset QTAPE_DATA
    [ -n "$data" ] && export QTAPE_DATA=$data
done

# ---- the four examples of CONTRIBUTING
grow CONTRIBUTING.md
[ $n = 4 ] || say "CONTRIBUTING.md: expected 4 C examples, found $n"

# ---- links, and C that is quoted from a file: "c FILE#L7-L9" are these lines of it, and there is a link to them
for doc in README.md CONTRIBUTING.md docs/*.md docs/tutorials/*.md docs/papers/*.md; do
    blocks "$doc" c
    for b in "$tmp"/blocks/*.file; do
        [ -e "$b" ] || continue
        place=$(cat "$b") lines=$(sed 's/.*#L\([0-9]*\)-L\([0-9]*\)$/\1,\2p/' "$b")
        sed -n "$lines" "${place%#*}" | cmp -s - "${b%.file}" || say "$doc: $place is not what is quoted"
        grep -qF "/$place)" "$doc" || say "$doc: no link to $place"
    done
    for link in $(grep -oE '\]\([^)#]+' "$doc" | sed 's/](//' | grep -v '^http'); do
        [ -e "$(dirname "$doc")/$link" ] || say "$doc: the link $link leads nowhere"
    done
done

[ $failed = 0 ] && echo 'documents: every command, example and link holds'
exit $failed
