#!/bin/sh
# First command: install what is missing, build qtape, train the quickstart. Without root or network it goes on with what is there.
#   ./setup.sh            everything
#   ./setup.sh build      without the quickstart
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh
need_build
cmake --preset release
cmake --build --preset release
[ "${1:-}" = build ] || build/qtape reproduce recipes/quickstart.yaml
