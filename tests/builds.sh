#!/bin/sh
# Other builds of the same sources, by another compiler or without versions of the loops for this CPU, train to the same bits: those in
# build/ that are newer than all sources are compared with this one. Skipped where there is none.
set -eu
cd "$QTAPE_SOURCE"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/conv.yaml" << 'END'
recipe: 1
model: [{use: conv2d, out: 12, kernel: 3, padding: 1, name: c1}, batch_norm, relu, {use: conv2d, out: 8, kernel: 3, name: c2}, l1_batch_norm_int,
        gelu, flatten, {use: linear, out: 32, name: fc1}, layer_norm, silu, {use: dropout, p: 0.2}, {use: linear, out: 10, name: fc2}]
data: {use: digits, batch_size: 32}
quant:
  - {match: c1, weights: {use: ternary}, activations: {use: int, num_bits: 8}}
  - {match: c2, weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4, signed: false}, grad: {use: shiftq, num_bits: 6, groups: 3}}
  - {match: fc1, weights: {use: uniform, num_bits: 3, granularity: channel}, activations: {use: pact, num_bits: 4}}
  - {match: fc2, weights: {use: bi_real}, activations: {use: recu}}
optim: {use: adamw, lr: 1e-3}
train: {steps: 30}
END
recipes="$work/conv.yaml recipes/smoke/digits.yaml recipes/smoke/elastic.yaml recipes/smoke/fixed-point.yaml recipes/smoke/lora.yaml recipes/smoke/domains.yaml"
fresh()
{
    [ -x "$1" ] && [ "$(readlink -f "$1")" != "$(readlink -f "$QTAPE_BIN")" ] && [ -z "$(find src datasets include CMakeLists.txt -newer "$1" -type f | head -1)" ]
}

short() # options that make a recipe 30 steps long
{
    echo train.steps=30
    ! grep -q '^train:.*epochs' "$1" || echo '~train.epochs'
}

found=0
for other in build/*/qtape; do
    fresh "$other" || continue
    found=1
    for recipe in $recipes; do
        name=$(basename "$recipe" .yaml)
        [ -d "$work/$name" ] || "$QTAPE_BIN" train "$recipe" $(short "$recipe") --run "$work/$name" --quiet --threads 2
        rm -rf "$work/other"
        "$other" train "$recipe" $(short "$recipe") --run "$work/other" --quiet --threads 1
        "$QTAPE_BIN" compare "$work/$name" "$work/other" --exact > "$work/said" || { cat "$work/said"; echo "$recipe: $other gives other bits"; exit 1; }
    done
    echo "$other: the same bits"
done
[ $found = 1 ] || { echo "no other build"; exit 77; }
