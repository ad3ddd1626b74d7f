#!/bin/sh
# A run from recipe to exported model under valgrind: no error, no block lost. Skipped where valgrind is not installed, and under sanitizers,
# which do not go together with it.
set -eu
command -v valgrind > /dev/null || { echo "valgrind is not installed"; exit 77; }
! grep -qE '__[at]san_init' "$QTAPE_BIN" || { echo "a build with sanitizers"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > r.yaml << 'END'
recipe: 1
model: [{use: conv2d, out: 4, kernel: 3, name: conv}, batch_norm, relu, flatten, {use: linear, out: 10, name: fc}]
data: {use: digits, batch_size: 16}
quant:
  - {match: "*", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4}, grad: {use: shiftq, num_bits: 4}}
optim: {use: adamw, lr: 1e-3, ema: 0.9}
train: {steps: 3, eval_every: 0}
export: [{format: h5}]
END
check() { OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$@"; }
check "$QTAPE_BIN" train r.yaml --run run --quiet --threads 1
check "$QTAPE_BIN" eval run --engine int --threads 1 > /dev/null
