#!/bin/sh
# Packed weights against ggml's quantized types, in one run: fetches the npm package that carries ggml's libraries into a folder outside of
# the project and runs bench_packed with them.
#   bench/ggml.sh BUILD FOLDER [NAME]     BUILD has bench_packed (ninja bench_packed); NAME: only lines of that name (TQ2_0, ternary ...)
# Exit code 3: npm or the package cannot be had.
set -eu
[ $# -ge 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
build=$1 folder=$2 name=${3:-}
package=@node-llama-cpp/linux-x64
[ -x "$build/bench_packed" ] || { echo "ggml.sh: $build/bench_packed is not there: ninja -C $build bench_packed" >&2; exit 2; }
libs=$folder/package/bins/linux-x64
if [ ! -e "$libs/libggml-base.so" ]; then
    mkdir -p "$folder"
    command -v npm > /dev/null || { echo "ggml.sh: npm is not installed, so ggml cannot be fetched" >&2; exit 3; }
    (cd "$folder" && npm pack --silent "$package" > /dev/null && tar xzf node-llama-cpp-linux-x64-*.tgz) ||
        { echo "ggml.sh: npm cannot fetch $package: is the registry reachable?" >&2; exit 3; }
fi
[ -e "$libs/libggml-base.so" ] || { echo "ggml.sh: $package has no bins/linux-x64/libggml-base.so" >&2; exit 3; }
# Waiting threads of libgomp spin for long by default, and would take time from the other library's.
GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-10000} exec "$build/bench_packed" "$libs" ${name:+"$name"}
