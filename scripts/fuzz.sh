#!/bin/sh
# Runs the fuzz targets under libFuzzer with sanitizers (clang), one a CPU, and says what was found.
#   scripts/fuzz.sh [SECONDS [TARGET ...]]        20 seconds each, all targets
#   QTAPE_BUILD=DIR scripts/fuzz.sh ...           with the programs of that build tree as they are; else preset `asan` is built
#   FUZZ_SEED=1 scripts/fuzz.sh ...               the same changes each time, as far as the time goes
# Inputs that reached something new stay in the build tree (corpus/TARGET), and the next run goes on from them. A finding is left in
# fuzz-findings/; put into tests/fuzz/seeds/TARGET once it is mended, it is tried by every test run.
set -eu
cd "$(dirname "$0")/.."
build=${QTAPE_BUILD:-build/asan}

# What one target's log says: a line of statistics, or what was found.
number() { sed -n "s/^stat::$1: *//p" "$log"; }
one()
{
    name=$1 log=fuzz-findings/$1.log corpus=$build/corpus/$1 dict=tests/fuzz/dict/$1.dict
    mkdir -p "$corpus"
    TMPDIR=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
    export TMPDIR UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1
    [ -e "$dict" ] && dict=-dict=$dict || dict=
    if "$build/fuzz_$name" $dict ${FUZZ_SEED:+-seed=$FUZZ_SEED} -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="fuzz-findings/$name-" "$corpus" "tests/fuzz/seeds/$name" > "$log" 2>&1
    then echo "ok     $name: $(number number_of_executed_units) inputs, $(number new_units_added) new seeds, $(sed -n '/^heap at most/p' "$log")"
    else echo "FOUND  $name: $(sed -n 's/.*SUMMARY: //p' "$log" | head -n 1), see $log"
    fi
    rm -rf "$TMPDIR"
}

if [ "${1:-}" = --one ]; then
    seconds=$2
    one "$3"
    exit
fi

seconds=${1:-20}
[ $# -eq 0 ] || shift
targets=${*:-$(for f in tests/fuzz/*.c; do basename "$f" .c; done | grep -vx fuzz)}
if [ -z "${QTAPE_BUILD:-}" ]; then
    . scripts/packages.sh
    need_build cmocka.pc:libcmocka-dev
    want_clang || { echo "libFuzzer needs clang, its sanitizers and its OpenMP, and they could not be installed"; exit 1; }
    cmake --preset asan > /dev/null
    cmake --build --preset asan --target $(printf 'fuzz_%s ' $targets) > /dev/null
fi
mkdir -p fuzz-findings
printf '%s\n' $targets | xargs -n 1 -P "$(nproc)" scripts/fuzz.sh --one "$seconds" | tee fuzz-findings/summary.txt
! grep -q FOUND fuzz-findings/summary.txt
