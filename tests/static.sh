#!/bin/sh
# cppcheck (warnings, portability) and clang-tidy (.clang-tidy) over all sources of the float library: no findings allowed. What is not
# installed is left out; exit 77 if neither is.
#   tests/static.sh          what ctest runs: without clang-tidy's analyzer, which follows paths through functions and takes long
#   tests/static.sh --deep   with it, and without the kernels, where all it has to say is that work spaces and lists might be empty
QTAPE_SOURCE=${QTAPE_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
QTAPE_BUILD=${QTAPE_BUILD:-$QTAPE_SOURCE/build}
cd "$QTAPE_SOURCE" || exit 1
checks=-clang-analyzer-* except=nothing
[ "${1:-}" != --deep ] || checks='' except=^src/kernels
tidy=$(command -v clang-tidy || command -v clang-tidy-16 || command -v clang-tidy-15 || command -v clang-tidy-14)
found=0

if command -v cppcheck > /dev/null; then
    cppcheck -q -j 2 --std=c11 --library=posix --enable=warning,portability --inline-suppr --error-exitcode=1 --suppressions-list=tests/cppcheck.txt \
        -Iinclude -Isrc -Idatasets -I"$QTAPE_BUILD/include" -D__GNUC__ -D__x86_64__ -D__linux__ src datasets tests/fuzz || found=1
else
    echo "cppcheck is not installed"
fi

# headers of other projects are system headers, which are not looked at
if [ "$tidy" ]; then
    flags="-std=c11 -D_GNU_SOURCE -DQTAPE_DATADIR='\"\"' -DQTAPE_GIT='\"\"' -Iinclude -Isrc -Idatasets -I'$QTAPE_BUILD/include'"
    flags="$flags -fopenmp $(pkg-config --cflags-only-I hdf5-serial yaml-0.1 openblas zlib stb | sed 's/-I/-isystem /g')"
    printf '%s\n' src/*/*.c datasets/*.c tests/fuzz/*.c | grep -v "$except" |
        xargs -P 2 -n 8 sh -c "$tidy -quiet --checks='$checks' \"\$@\" -- $flags 2> /dev/null" tidy || found=1
else
    echo "clang-tidy is not installed"
fi
[ "$tidy" ] || command -v cppcheck > /dev/null || exit 77
exit $found
