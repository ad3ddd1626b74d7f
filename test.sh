#!/bin/sh
# Second command: install what is missing, build the tests (warnings are errors) and run them, in float and double.
#   ./test.sh          that
#   ./test.sh full     before it, with clang: the float tests under the address and undefined behaviour sanitizers without the slow ones, 20 s of
#                      libFuzzer for each reader, the threaded tests under the thread sanitizer; and with gcc the share of lines that tests run
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh
need_build cmocka.pc:libcmocka-dev

failed() { echo "FAILED: $1 (its output is above)"; exit 1; }

run() # PRESET [-DNAME=VALUE ...]
{
    cmake --preset "$@"
    cmake --build --preset "$1" || failed "build of preset $1"
    ctest --preset "$1" || failed "tests of preset $1"
}

if [ "${1:-}" = full ]; then
    want cppcheck:cppcheck clang-tidy:clang-tidy valgrind:valgrind
    if want_clang; then
        run asan
        echo "== libFuzzer"
        FUZZ_SEED=1 scripts/fuzz.sh 20 || failed "fuzzing"
        run tsan
    else
        echo "== no clang: gcc's sanitizers, without libFuzzer and the thread sanitizer"
        run asan -DCMAKE_C_COMPILER=gcc -DQTAPE_FUZZ=OFF -DQTAPE_WERROR=OFF
    fi
    echo "== lines that tests run"
    scripts/coverage.sh || failed "coverage"
fi
run test
