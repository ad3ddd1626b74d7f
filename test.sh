#!/bin/sh
# Second command: install what is missing, build the tests (warnings are errors) and run them: the float tests under the address and
# undefined behaviour sanitizers, without the slow ones; then all tests, float and double, as they are.
#   ./test.sh             both
#   ./test.sh quick       without sanitizers
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh
need_build cmocka.pc:libcmocka-dev

run()
{
    cmake --preset "$1"
    cmake --build --preset "$1"
    ctest --preset "$1" || { echo "FAILED: tests of preset '$1' (the output of each failed test is above)"; exit 1; }
}

[ "${1:-}" = quick ] || run asan
run test
