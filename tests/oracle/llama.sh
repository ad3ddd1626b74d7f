#!/bin/sh
# Log-probabilities of an unmodified llama.cpp for a GGUF file: see llama.c for what goes in and out.
#
#     tests/oracle/llama.sh FILE.gguf TOKENS.txt OUT.npy [--lora ADAPTER.gguf] [--kv f32]
#     tests/oracle/llama.sh --dir         where its libraries are
#
# The libraries are the CPU build of llama.cpp in the npm package @node-llama-cpp/linux-x64. They are looked for in $QTAPE_LLAMA (the folder of
# the .so files, or the package), and installed into the cache where there is npm and a network. Exit code 77: there are none.
set -u
package=@node-llama-cpp/linux-x64 version=3.22.1
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/qtape/llama-$version

for dir in "${QTAPE_LLAMA:-}" "${QTAPE_LLAMA:-}/bins/linux-x64" /tmp/ggml/package/bins/linux-x64 "$cache/node_modules/$package/bins/linux-x64"; do
    ls "$dir"/libllama.*so* > /dev/null 2>&1 && break
    dir=
done
if [ -z "$dir" ]; then
    mkdir -p "$cache" && npm install --prefix "$cache" --no-save --no-audit --no-fund --ignore-scripts --force "$package@$version" > /dev/null 2>&1
    dir=$cache/node_modules/$package/bins/linux-x64
    ls "$dir"/libllama.*so* > /dev/null 2>&1 || { echo "skipped: no llama.cpp here (npm install $package@$version, or set QTAPE_LLAMA)" >&2; exit 77; }
fi
[ "${1:-}" = --dir ] && { echo "$dir"; exit 0; }

driver=$cache/llama
if [ ! -x "$driver" ] || [ "$here/llama.c" -nt "$driver" ]; then
    mkdir -p "$cache" && "${CC:-cc}" -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -o "$driver.$$" "$here/llama.c" -ldl -lm && mv "$driver.$$" "$driver" || exit 1
fi
exec "$driver" "$dir" "$@"
