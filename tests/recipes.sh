#!/bin/sh
# Every recipe of the project reads without an error; each but the smoke recipes trains two steps; the smoke recipes keep their claims.
# A recipe whose data are not on this machine is only checked, and named.
set -u
cd "$(dirname "$0")/.." || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0 ran=0 only=''
fail() { echo "recipes: $1"; cat "$tmp/out"; failed=1; }
try() { "$@" > "$tmp/out" 2>&1; }
# Runs a recipe; data that are missing are no failure.
run()
{
    name=$1
    shift
    if try "$@"; then ran=$((ran + 1))
    elif grep -q 'qtape data ' "$tmp/out"; then only="$only $name"
    else fail "$name: $*"
    fi
}

for recipe in $(find recipes -name '*.yaml' ! -path 'recipes/models/*' | sort); do
    try "$QTAPE_BIN" check "$recipe" || fail "$recipe: check"
    case $recipe in
        recipes/smoke/*) run "$recipe" "$QTAPE_BIN" reproduce "$recipe" --run "$tmp/smoke/$(basename "$recipe" .yaml)" ;;
        *)
            init=$(grep -q '^init:' "$recipe" && echo '~init')
            epochs=$("$QTAPE_BIN" show "$recipe" | grep -q '^train:.*epochs:' && echo '~train.epochs')
            run "$recipe" "$QTAPE_BIN" train "$recipe" $epochs train.steps=2 $init --run "$tmp/steps/$recipe" --quiet
            ;;
    esac
done
for model in recipes/models/*.yaml; do
    printf 'recipe: 1\ninclude: [%s]\ndata: {use: fashion-mnist}\ntrain: {steps: 1}\n' "$PWD/$model" > "$tmp/model.yaml"
    try "$QTAPE_BIN" check "$tmp/model.yaml" || fail "$model: check"
done
echo "recipes: $ran ran${only:+, only checked for want of data:$only}"
[ $ran -gt 5 ] || failed=1
exit $failed
