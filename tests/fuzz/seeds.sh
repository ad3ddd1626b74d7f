#!/bin/sh
# Makes tests/fuzz/seeds/ anew: small files of every format that qtape reads. Needs the program and python3 with numpy and h5py.
#   tests/fuzz/seeds.sh [PROGRAM]
set -eu
cd "$(dirname "$0")/../.."
qtape=$(realpath "${1:-build/qtape}")
seeds=$PWD/tests/fuzz/seeds
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$seeds"
for kind in recipe idx image csv jsonl text hdf5 checkpoint engine gguf safetensors npy bpe metrics pattern; do mkdir -p "$seeds/$kind"; done
cp recipes/quickstart.yaml recipes/papers/lsq.yaml recipes/smoke/lora.yaml recipes/smoke/imagefolder.yaml "$seeds/recipe"
head -n 20 recipes/smoke/data/iris.csv > "$seeds/csv/iris"
head -c 600 recipes/smoke/data/text.txt > "$seeds/text/english"
find recipes/smoke/data/digits -name '*.png' | sort | head -n 3 | xargs -I{} cp {} "$seeds/image"
base64 -d > "$seeds/image/four.jpg" << 'JPEG'
/9j/4AAQSkZJRgABAQAAAQABAAD/2wCEAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsKDAkKCgoBAgICAgICBQMDBQoHBgcKCgoKCgoKCg
oKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCv/AABEIAAkADQMBEQACEQEDEQH/xAGiAAABBQEBAQEBAQAAAAAAAAAAAQIDBAUGBwgJCgsQAAIBAwMCBAMFBQQEAAABfQEC
AwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqa
qys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+gEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoLEQACAQIEBAMEBwUEBAABAncAAQIDEQQFITEGEkFRB2FxEyIy
gQgUQpGhscEJIzNS8BVictEKFiQ04SXxFxgZGiYnKCkqNTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqCg4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxs
fIycrS09TV1tfY2dri4+Tl5ufo6ery8/T19vf4+fr/2gAMAwEAAhEDEQA/APnT4OfsKf6r/iTen/LOv6Q4m+mR8X+0fifmfhP4qfw/3nbqfT3gP9hT/iTj/iTen/LOvwXN/pkf7T/vH4n+jHBXip/w
kr9526npXwc/5ZfhX+d3E32j/EHwn/5d/I+nvAf/ACBx+Ffgub/7yf6McFf8ilfI/9k=
JPEG
cd "$work"

cat > tiny.yaml <<'YAML'
recipe: 1
model: [flatten, {use: linear, out: 10, name: fc}]
data: {use: digits, batch_size: 32}
quant: [{match: fc, weights: ternary, activations: {use: int, num_bits: 8, granularity: token}}]
train: {steps: 4, eval_every: 2, log_every: 1}
export: [{format: h5}]
YAML
cat > lm.yaml <<'YAML'
recipe: 1
model: {arch: llama, vocab: 256, d_model: 8, n_layer: 1, n_head: 1, d_ff: 8}
data: {use: text, path: text.txt, seq_len: 8, batch_size: 2}
train: {steps: 1, eval_every: 0}
export: [{format: gguf, type: F32}, {format: safetensors}]
YAML
for i in 1 2 3 4 5 6 7 8 9; do echo "the quick brown fox jumps over the lazy dog $i times"; done > text.txt
"$qtape" train tiny.yaml --run tiny --quiet
"$qtape" train lm.yaml --run lm --quiet
cp tiny/ckpt/last.h5 "$seeds/checkpoint/tiny"
cp tiny/export/*.h5 "$seeds/engine/ternary"
cp lm/export/*.gguf "$seeds/gguf/llama"
cp lm/export/*.safetensors "$seeds/safetensors/llama"
cp tiny/metrics.jsonl "$seeds/metrics/tiny"
"$qtape" data bpe text.txt --vocab 280 -o words.bpe > /dev/null
cp words.bpe "$seeds/bpe/words"
printf '{"prompt": "2 + 2", "completion": "4"}\n\n{"completion": "\\u00e9\\n", "prompt": ""}\n' > "$seeds/jsonl/two"
printf 're:blk\\.([0-9]+)\\.(conv|fc)[12]?\nblk.0.conv1' > "$seeds/pattern/regex"
printf 'blk.*.conv?\nblk.0.conv1' > "$seeds/pattern/glob"
printf '[a-z]*.{weight,bias}\nfc.weight' > "$seeds/pattern/brackets"

python3 - "$seeds" <<'PY'
import gzip, struct, sys
import h5py
import numpy as np
seeds = sys.argv[1]
images = struct.pack('>HBBIII', 0, 8, 3, 2, 4, 4) + bytes(range(32))
labels = struct.pack('>HBBI', 0, 8, 1, 5) + bytes(5)
open(seeds + '/idx/images', 'wb').write(images)
open(seeds + '/idx/labels.gz', 'wb').write(gzip.compress(labels, mtime=0))
open(seeds + '/idx/images.gz', 'wb').write(gzip.compress(images, mtime=0))
np.save(seeds + '/npy/floats.npy', np.arange(12, dtype='<f4').reshape(3, 4))
np.save(seeds + '/npy/ids.npy', np.arange(7, dtype='<i8'))
with h5py.File(seeds + '/hdf5/train', 'w') as f:
    f['train/x'] = np.arange(60, dtype='f4').reshape(5, 3, 4)
    f['train/y'] = np.array([0, 1, 2, 0, 1], 'i4')
    f['test/x'] = np.zeros((2, 3, 4), 'u1')
    f['test/y'] = np.array([1, 2], 'u1')
with h5py.File(seeds + '/hdf5/chunks', 'w') as f:
    f.create_dataset('x', data=np.arange(200, dtype='f8').reshape(20, 10), chunks=(5, 10), compression='gzip', shuffle=True)
    f['y'] = np.arange(20, dtype='i8') % 3
PY

# words of recipes: every name of the reference, and what YAML and patterns are made of
cd "$seeds/.."
{
    echo '# Made by tests/fuzz/seeds.sh: the names of docs/reference.md, and what YAML and patterns are made of.'
    sed -n 's/^### \([a-z0-9_][a-z0-9_]*\)$/\1/p; s/^  \([a-z0-9_][a-z0-9_]*\)  .*/\1/p' ../../docs/reference.md | sort -u | sed 's/.*/"&: "/'
    printf '"%s"\n' 'use: ' 'match: ' 'arms: ' 'claims: ' 'include: ' 're:' '!unset' '${' '}' '&a' '*a' '<<: ' '|' '>' '- ' '[' ']' '{' ', ' '?' '~' null true .inf .nan 0x1F \
        1e-3 -1 9223372036854775807 '\x0a  ' '\x09' '---\x0a' '%YAML 1.2\x0a'
} > dict/recipe.dict
du -sh "$seeds"
