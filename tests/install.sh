#!/bin/sh
# Installs into a temporary prefix, finds the package with CMake and pkg-config, builds the example against it, runs it.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
quietly() { "$@" > "$tmp/log" 2>&1 || { cat "$tmp/log"; echo "install: failed: $*"; exit 1; }; }

quietly cmake --install "$QTAPE_BUILD" --prefix "$tmp/prefix"
for f in bin/qtape libexec/qtape/qtape-f64 include/qtape.h include/qtape/ops.def share/man/man1/qtape.1 share/bash-completion/completions/qtape \
    share/qtape/recipes/quickstart.yaml; do
    [ -s "$tmp/prefix/$f" ] || { echo "install: $f is missing"; exit 1; }
done
quietly cmake -G Ninja -S "$QTAPE_SOURCE/examples" -B "$tmp/example" -DCMAKE_PREFIX_PATH="$tmp/prefix"
quietly cmake --build "$tmp/example"
cd "$tmp"
"$tmp/example/train_quantized" | tee "$tmp/out"
awk '/^step/ {if (!n++) first = $4; last = $4; accuracy = $6}
     END {if (!(n && last < first / 2 && accuracy > 90)) {print "install: the example does not learn"; exit 1}}' "$tmp/out"
"$tmp/prefix/bin/qtape" inspect spirals.h5 | grep -q 'params/fc1.weight'
"$tmp/prefix/bin/qtape" gradcheck relu | grep -q 'double precision'
prefix=$(ls -d "$tmp"/prefix/lib*/pkgconfig "$tmp"/prefix/lib/*/pkgconfig 2> /dev/null | head -1)
PKG_CONFIG_PATH=$prefix pkg-config --define-variable=prefix="$tmp/prefix" --exists qtape
echo 'install: the example trains against the installed package'
