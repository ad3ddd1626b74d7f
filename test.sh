#!/bin/sh
# Second command: build the tests (warnings are errors) and run them; then the float tests once more under the address and undefined
# behaviour sanitizers, without the slow ones.
#   ./test.sh             both
#   ./test.sh quick       without sanitizers
set -eu
cd "$(dirname "$0")"
./setup.sh build
. scripts/packages.sh
need cmocka.pc:libcmocka-dev

run()
{
    cmake --preset "$1" > "build/$1.log" 2>&1 || { cat "build/$1.log"; exit 1; }
    cmake --build --preset "$1"
    ctest --preset "$1" || { echo "FAILED: tests of preset '$1' (the output of each failed test is above)"; exit 1; }
}

[ "${1:-}" = quick ] || ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 run asan
run test
