#!/bin/sh
# What was trained is what an unmodified llama.cpp computes: small models, exported by qtape, over held-out text.
#
#     tests/oracle/equal.sh [build/qtape]          exit code 77: there is no llama.cpp (llama.sh says why)
#
# Perplexities are compared to 4 digits, and all log-probabilities by `qtape verify`: at half of the positions (nine in ten without quantization)
# they must be within 1e-5 at all tokens. A wrong formula (a cache of another precision) leaves none; the other positions follow, in their
# window, a place where the order of two sums has decided about the rounding of an activation, and how many do depends on the CPU's kernels
# (docs/deployment.md has the shares of one).
set -u
qtape=${1:-${QTAPE_BIN:-build/qtape}}
here=$(cd "$(dirname "$0")" && pwd) text=recipes/smoke/data/text.txt failed=0
cd "$here/../.." || exit 1
"$here/llama.sh" --dir > /dev/null || exit $?
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# train NAME ARM WORDS: the run $tmp/NAME-s3, and $tmp/tokens.txt, the windows of its held-out text
train()
{
    name=$1 arm=$2
    shift 2
    "$qtape" train tests/oracle/tiny.yaml --arm "$arm" --run "$tmp/$name-s3" --quiet "$@" > "$tmp/result" || { echo "$name: training failed"; exit 1; }
    n=$(sed -n 's/.*"event": "final".* "n": \([0-9]*\),.*/\1/p' "$tmp/$name-s3/metrics.jsonl")
    tail -c $((n + 1)) $text | head -c "$n" | od -An -v -tu1 -w64 > "$tmp/tokens.txt"
    tail -c "$n" $text | od -An -v -tu1 -w1 > "$tmp/targets.txt"
}

# same NAME SHARE FILE.gguf OPTIONS: runs llama.cpp with these and compares
same()
{
    name=$1 share=$2 file=$3
    shift 3
    "$here/llama.sh" "$file" "$tmp/tokens.txt" "$tmp/out.npy" "$@" || exit 1
    "$qtape" verify "$tmp/$name-s3" --against "$tmp/out.npy" --tokens "$tmp/tokens.txt" --share "$share" --json > "$tmp/verify" || failed=1
    ours=$(sed -n 's/.*"event": "final".*"perplexity": \([0-9.]*\),.*/\1/p' "$tmp/$name-s3/metrics.jsonl")
    # row i of the array, 256 floats behind a head of 128 bytes; only the target's is wanted
    theirs=$(tail -c +129 "$tmp/out.npy" | od -An -v -tf4 -w1024 | paste -d' ' "$tmp/targets.txt" - | awk '{s += $($1 + 2)} END {printf "%.9g", exp(-s / NR)}')
    awk -v a="$ours" -v b="$theirs" -v name="$name" -v all="$(cat "$tmp/verify")" 'BEGIN {
        printf "%-16s perplexity %.4g and %.4g   %s\n", name, a, b, all; d = a - b; exit !(d * d <= (1e-4 * a) ^ 2)}' || { echo "$name: perplexities differ: $ours, $theirs"; failed=1; }
}

train F32 F32
same F32 0.9 "$tmp/F32-s3/export/tiny.gguf" --kv f32
for arm in TQ2_0 TQ1_0 Q4_0 Q8_0 bitnet; do
    train $arm $arm
    same $arm 0.5 "$tmp/$arm-s3/export/tiny.gguf" --kv f32
done
train adapter adapter
same adapter 0.5 "$tmp/TQ2_0-s3/export/tiny.gguf" --kv f32 --lora "$tmp/adapter-s3/export/tiny.gguf"
train TQ2_0-fp16 TQ2_0 model.fp16=true
same TQ2_0-fp16 0.5 "$tmp/TQ2_0-fp16-s3/export/tiny.gguf"
exit $((failed * 3))
