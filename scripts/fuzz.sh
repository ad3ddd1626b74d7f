#!/bin/sh
# Runs the fuzz targets under libFuzzer with sanitizers (clang), two at a time, and says what was found.
#   scripts/fuzz.sh [SECONDS] [TARGET ...]        20 seconds each, all targets
# A finding is left in fuzz-findings/; put into tests/fuzz/seeds/TARGET once it is mended, it is tried by every test run.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" = --one ]; then
    log=fuzz-findings/$3.log
    corpus=$(mktemp -d)
    export UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1
    if build/fuzz/fuzz_"$3" -max_total_time="$2" -timeout=10 -malloc_limit_mb=66 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix=fuzz-findings/"$3"- "$corpus" tests/fuzz/seeds/"$3" > "$log" 2>&1
    then echo "ok     $3: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    else echo "FOUND  $3: $(sed -n 's/^SUMMARY: //p' "$log"), see $log"
    fi
    rm -rf "$corpus"
    exit
fi

. scripts/packages.sh
need_build clang:clang /usr/lib/x86_64-linux-gnu/libomp.so.5:libomp-dev cmocka.pc:libcmocka-dev
seconds=${1:-20}
[ $# -eq 0 ] || shift
targets=${*:-$(for f in tests/fuzz/*.c; do basename "$f" .c; done | grep -vx fuzz)}
cmake --preset fuzz > /dev/null
cmake --build --preset fuzz --target $(printf 'fuzz_%s ' $targets) > /dev/null
mkdir -p fuzz-findings
printf '%s\n' $targets | xargs -n 1 -P 2 scripts/fuzz.sh --one "$seconds" | tee fuzz-findings/summary.txt
! grep -q FOUND fuzz-findings/summary.txt
