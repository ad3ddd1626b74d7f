#!/bin/sh
# First command: install what is missing, build qtape, train the quickstart. Without root or network it goes on with what is there.
#   ./setup.sh            everything
#   ./setup.sh build      without the quickstart
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh

need gcc:gcc /usr/include/stdio.h:libc6-dev cmake:cmake ninja:ninja-build pkg-config:pkg-config awk:mawk \
     openblas.pc:libopenblas-dev hdf5-serial.pc:libhdf5-dev yaml-0.1.pc:libyaml-dev zlib.pc:zlib1g-dev stb.pc:libstb-dev
want /usr/share/datasets/fashion-mnist:dataset-fashion-mnist

cmake --preset release > build.log 2>&1 || { cat build.log; exit 1; }
rm -f build.log
cmake --build --preset release
[ "${1:-}" = build ] || build/qtape reproduce recipes/quickstart.yaml
