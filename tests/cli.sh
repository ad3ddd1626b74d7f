#!/bin/bash
# The command line from outside: exit codes, messages, positions, help, lists, completion, man page.
set -u
cd "$QTAPE_SOURCE" || exit 1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
# expect CODE PATTERN ARGUMENT...: runs qtape, wants the exit code and the (extended) pattern in what it prints
expect()
{
    local code=$1 pattern=$2 out got
    shift 2
    out=$("$QTAPE_BIN" "$@" 2>&1)
    got=$?
    [ $got = "$code" ] && grep -qE -- "$pattern" <<< "$out" && return
    printf 'qtape %s\n  expected exit code %s and /%s/, got %s and:\n%s\n' "$*" "$code" "$pattern" $got "$out"
    failed=1
}
say() { echo "$*"; failed=1; }

# ---- program and usage
expect 0 '^qtape [0-9]+\.[0-9]+\.[0-9]+$' --version
expect 0 '^commands:' --help
expect 0 '^commands:' help
expect 2 'a command is missing'
expect 2 "unknown command 'trian', did you mean 'train'\?" trian
expect 2 "unknown option '--hlep', did you mean '--help'\?" --hlep
expect 2 "train: unknown option '--treads', did you mean '--threads'\?" train --treads 2 x.yaml
expect 2 "train: unknown option '-x'" train -x x.yaml
expect 2 "option '--arm' needs a value" train recipes/quickstart.yaml --arm
expect 2 "option '--quiet' takes no value" train recipes/quickstart.yaml --quiet=3
expect 2 'too few arguments' train
expect 2 'too many arguments' resume a b
expect 2 '--threads two: expected a whole number' train recipes/quickstart.yaml --threads two
expect 2 '--threads 0: expected a whole number' train recipes/quickstart.yaml --threads 0
expect 2 '--quiet and --json exclude' train recipes/quickstart.yaml --quiet --json
expect 2 '--seeds 1,x: expected' reproduce recipes/quickstart.yaml --seeds 1,x
expect 2 '--seeds 1,2,1: 1 stands here twice' reproduce recipes/quickstart.yaml --seeds 1,2,1
expect 2 'are [0-9]+ runs, more than 2 \(--max-runs [0-9]+ allows them' check recipes/papers/pareto-resnet.yaml --max-runs 2
expect 2 'are [0-9]+ runs, more than 2 \(--max-runs [0-9]+ allows them' reproduce recipes/papers/pareto-resnet.yaml --max-runs 2
expect 2 '--tag chooses among all' reproduce recipes/quickstart.yaml --tag smoke
expect 2 'expected train, val or test' eval "$tmp" --split tset
expect 2 'expected float, int or fixed' eval "$tmp" --engine integer
expect 2 "option '--format' is missing" export "$tmp"
expect 2 "unknown exporter 'h6', did you mean 'h5'" export "$tmp" --format h6
expect 2 "level: unknown key" export "$tmp" --format h5 level=3
expect 2 'no run directory' export "$tmp" --format h5
expect 2 'no-such.yaml' train no-such.yaml
expect 2 'no-such.yaml' check no-such.yaml
expect 2 'no run directory' resume "$tmp"
expect 1 'neither HDF5, GGUF, safetensors nor a run directory' inspect README.md
expect 1 'No such file' inspect no-such-file
expect 2 'qtape show' inspect recipes/quickstart.yaml
printf 'GGUF\003\0\0\0\001\0\0\0\0\0\0\0\001\0\0\0\0\0\0\0\001\0\0\0\0\0\0\0k\004\0\0\0\007\0\0\0\001\0\0\0\0\0\0\0t\001\0\0\0\001\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'"$(printf '\\0%.0s' {1..22})data" > "$tmp/a.gguf"
expect 0 'GGUF, version 3, alignment 32: 1 keys; 1 tensors, 1 numbers in 4 bytes, 32 bits' inspect "$tmp/a.gguf"
expect 0 '^  k +u32 +7$' inspect "$tmp/a.gguf"
expect 0 '^  t +F32 +\[1\] +4 bytes  32 bits$' inspect "$tmp/a.gguf"
expect 0 '"keys": \[{"name": "k", "type": "u32", "value": 7}\]' inspect "$tmp/a.gguf" --json
head -c 60 "$tmp/a.gguf" > "$tmp/b.gguf"
expect 1 "b.gguf: the file ends within tensor 't'" inspect "$tmp/b.gguf"
printf '\070\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  1234' > "$tmp/a.safetensors"
expect 0 'safetensors: 1 tensors, 1 numbers in 4 bytes, 32 bits' inspect "$tmp/a.safetensors"
expect 0 '"tensors": \[{"name": "a", "type": "F32", "shape": \[1\], "bytes": 4' inspect "$tmp/a.safetensors" --json
printf '\070\0\0\0\0\0\0\0{"a"' > "$tmp/b.safetensors"
expect 1 'b.safetensors: a header of 56 bytes, the file has 12' inspect "$tmp/b.safetensors"
expect 2 'only GGUF and safetensors' inspect "$tmp" --json
[ -c /dev/full ] && { "$QTAPE_BIN" list ops > /dev/full 2> /dev/null; [ $? = 1 ] || say 'list ops > /dev/full: expected exit code 1'; }

# ---- help of every command, lists of every kind, explain
for c in $("$QTAPE_BIN" list commands | cut -d' ' -f1); do
    expect 0 "^usage: qtape $c" "$c" --help
    expect 0 '^exit codes:' help "$c"
done
for k in ops quants layers losses metrics optims schedules datasets phases steppers exporters codecs regularizers commands recipes; do
    expect 0 . list $k
    out=$("$QTAPE_BIN" list $k --json)
    [[ $out == \[*\] ]] || say "list $k --json: no JSON array"
    ! command -v python3 > /dev/null || python3 -c 'import json, sys; json.load(sys.stdin)' <<< "$out" || say "list $k --json: not JSON"
done
expect 2 "unknown kind 'quant5', did you mean 'quants'\?" list quant5
expect 2 "did you mean 'lsq'\?" list quants lqs
expect 0 'num_bits' list quants lsq
expect 0 'qt_tensor \*qt_conv2d\(qt_tape \*t' list ops conv2d
expect 0 'from src/qat/lsq.c' explain quant lsq
expect 0 'y over x .*, 3 bits' explain quant lsq
expect 0 'y over x .*, 2 bits' explain quant dorefa num_bits=2 role=act
expect 2 "num_bit: unknown key, did you mean 'num_bits'" explain quant lsq num_bit=2
expect 2 'expected weight or act' explain quant lsq role=grad
expect 2 'expected key=value' explain quant lsq 3
expect 2 'keys are for quantizers' explain op relu num_bits=3
for k in op quant layer loss metric optim schedule dataset phase exporter; do
    case $k in loss) s=losses ;; *) s=${k}s ;; esac
    for n in $("$QTAPE_BIN" list $s | cut -d' ' -f1); do expect 0 '^from [a-z/_0-9]*\.c:' explain $k "$n"; done
done

# ---- check: positions, all errors in one pass, nothing left behind
cat > "$tmp/wrong.yaml" << 'YAML'
recipe: 1
name: wrong
data: {use: digits, batch_size: 32}
model:
  - flatten
  - {use: linear, out: 10, nmae: fc}
optim: {use: adam, lr: -1}
trian: {steps: 10}
train: {steps: 10}
YAML
expect 2 "wrong.yaml:6:[0-9]+: .*'?nmae'?.*did you mean 'name'" check "$tmp/wrong.yaml"
expect 2 'wrong.yaml:7:24: ' check "$tmp/wrong.yaml"
expect 2 "wrong.yaml:8:1: .*did you mean 'train'" check "$tmp/wrong.yaml"
sed -e 's/nmae/name/' -e 's/lr: -1/lr: 1e-3/' -e '/^trian/d' "$tmp/wrong.yaml" > "$tmp/right.yaml"
expect 0 'recipe ok: 2 layers, 650 parameters, quantized 0 / kept 1' check "$tmp/right.yaml"
expect 0 'quantized: fc \(lsq\)' check "$tmp/right.yaml" 'quant=[{match: "*", weights: {use: lsq, num_bits: 4}}]'
expect 2 'out: 7|7 .*10' check "$tmp/right.yaml" 'model[1].out=7'
expect 2 'command line' check "$tmp/right.yaml" optim.lr=fast
expect 2 'wrong.yaml:6' train "$tmp/wrong.yaml" --run "$tmp/run"
[ ! -e "$tmp/run" ] || say 'a refused train left its run directory'

# ---- train, resume, eval, inspect
expect 0 'accuracy' train "$tmp/right.yaml" --run "$tmp/run" --threads 1
expect 2 'not empty' train "$tmp/right.yaml" --run "$tmp/run"
expect 0 'accuracy' train --force --run="$tmp/run" "$tmp/right.yaml" optim.lr=2e-3
expect 0 '"split": "test", "loss": [0-9.]+, "accuracy": [0-9.]+, "n": 449, "engine": "float"' eval "$tmp/run" --json --out "$tmp/logits.h5"
expect 0 'samples +1348' eval "$tmp/run" --split train
expect 2 "no split 'val'" eval "$tmp/run" --split val
expect 0 'logits +\[449, 10\]' inspect "$tmp/logits.h5"
expect 0 'fc.weight +\[10, 64\]' inspect "$tmp/run/ckpt/last.h5"
expect 0 'run directory, finished' inspect "$tmp/run"
expect 0 '' resume "$tmp/run"

# ---- text: a vocabulary, a run, perplexity
text=recipes/smoke/data/text.txt
expect 0 '^.*/a.bpe: 300 tokens, 1\.[0-9]+ bytes a token$' data bpe --vocab 300 $text -o "$tmp/a.bpe"
expect 0 '' data bpe $text --vocab=300 --out "$tmp/b.bpe"
cmp -s "$tmp/a.bpe" "$tmp/b.bpe" || say 'data bpe: another vocabulary from the same text'
expect 2 '--vocab is missing' data bpe $text -o "$tmp/c.bpe"
expect 2 '-o is missing' data bpe $text --vocab 300
expect 2 'a file of text is missing' data bpe --vocab 300 -o "$tmp/c.bpe"
expect 2 '--vocab 12: expected a whole number' data bpe --vocab 12 $text -o "$tmp/c.bpe"
expect 2 'the text supports [0-9]+ tokens' data bpe --vocab 90000 $text -o "$tmp/c.bpe"
printf 'caf\351' > "$tmp/latin1.txt"
expect 1 'latin1.txt: byte 0xe9 at offset 3 is not UTF-8' data bpe --vocab 300 "$tmp/latin1.txt" -o "$tmp/c.bpe"
[ ! -e "$tmp/c.bpe" ] || say 'data bpe: a refused command wrote a vocabulary'
export QTAPE_DATA=$tmp/data
expect 0 '^digits +1x8x8 +10 +always there ' data list
expect 0 '^csv .* your files ' data list
out=$("$QTAPE_BIN" data list --json 2>&1)
! command -v python3 > /dev/null || python3 -c 'import json, sys; assert {d["name"]: d["here"] for d in json.load(sys.stdin)}["digits"]' <<< "$out" || say 'data list --json: not as expected'
expect 0 '^digits: always there' data get digits
expect 2 'csv reads your own files: there is nothing to get' data get csv
expect 2 "unknown dataset 'digit', did you mean 'digits'" data get digit
expect 2 'data get: which one' data get
expect 2 "data: unknown action 'lst', did you mean 'list'" data lst
expect 2 "data list takes no name, found 'x'" data list x
expect 2 "data: unknown action 'everything'; there are list, get and bpe" data everything
expect 1 'kjv: not here; .qtape data get kjv. brings it' data bpe --vocab 300 kjv -o "$tmp/c.bpe"
expect 1 'data set kjv not found; .qtape data get kjv. brings it' train recipes/smoke/text.yaml 'data={use: kjv}' --run "$tmp/text"
expect 0 'perplexity +[0-9.]+' train recipes/smoke/text.yaml train.steps=2 --run "$tmp/text"
n=$("$QTAPE_BIN" eval "$tmp/text" --json --out "$tmp/text.h5" | sed -n 's/^{"split": "test", "loss": [0-9.]*, "perplexity": [0-9.]*, "n": \([0-9]*\), "engine": "float"}$/\1/p')
expect 0 "logits +\[$n, 256\]" inspect "$tmp/text.h5"
expect 0 'tokens +[0-9]+' eval "$tmp/text" --split train
bpe=("data.tokens=$tmp/a.bpe" data.vocab=300 'model[0].num=300' 'model[3].out=300')
expect 0 'recipe ok' check recipes/smoke/text.yaml "${bpe[@]}"
expect 2 'the last layer gives \[64, 256\], but 64 tokens of 300 kinds take \[64, 300\]' check recipes/smoke/text.yaml "${bpe[@]::3}"
expect 0 'perplexity' train recipes/smoke/text.yaml "${bpe[@]}" train.steps=2 --run "$tmp/bpe"
unset QTAPE_DATA

# ---- export, the deployment engine
four='quant=[{match: "*", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4, signed: false}}]'
expect 0 'exported .*wrong.h5, 1 of 1 layers in integers' train "$tmp/right.yaml" --run "$tmp/four" "$four" 'export=[{format: h5}]'
[ -e "$tmp/four/export/export.json" ] || say 'a recipe with export: leaves no export.json'
expect 0 "^$tmp/four/export/wrong.h5\$" export "$tmp/four" --format h5
expect 0 "^$tmp/m.h5\$" export "$tmp/four" -f h5 -o "$tmp/m.h5"
! command -v python3 > /dev/null || python3 - "$tmp" << 'PYTHON' || say 'export.json: not as expected'
import hashlib, json, sys
j = json.load(open(sys.argv[1] + '/export.json'))
assert j['sha256'] == hashlib.sha256(open(sys.argv[1] + '/m.h5', 'rb').read()).hexdigest()
assert j['format_version'] == 1 and j['verified'] == {'logits_equal': True, 'samples': 64}
assert [l['engine'] for l in j['layers']] == ['int'] and {t['name']: t['bits'] for t in j['tensors']}['fc.weight'] == 4
PYTHON
expect 0 '"engine": "float"' eval "$tmp/four" --json --out "$tmp/a.h5"
expect 0 '"engine": "int"' eval "$tmp/four" --engine int --json --out "$tmp/b.h5"
expect 0 '"engine": "int"' eval "$tmp/m.h5" --json --out "$tmp/c.h5"
cmp -s "$tmp/a.h5" "$tmp/b.h5" || say 'engine int: other logits than engine float'
cmp -s "$tmp/a.h5" "$tmp/c.h5" || say 'an exported file: other logits than engine float'
expect 2 'which only the engine .int. runs' eval "$tmp/m.h5" --engine float
expect 0 'exported model.*checksum ok' inspect "$tmp/m.h5"
expect 0 'fc +\[10, 64\] +codes -8 to 7, 1 scale' inspect "$tmp/m.h5"
expect 0 'no layer of .* computes in integers' eval "$tmp/run" --engine int
head -c 3000 "$tmp/m.h5" > "$tmp/cut.h5"
expect 1 'cut.h5: damaged exported model' eval "$tmp/cut.h5"
expect 1 'is no qtape exported model' eval "$tmp/run/ckpt/last.h5"
sed '1s/QTAPE-MODEL 1/QTAPE-MODEL 2/' "$tmp/m.h5" > "$tmp/newer.h5"
expect 1 'exported for a newer format version, 2' eval "$tmp/newer.h5"
cp "$tmp/run/ckpt/last.h5" "$tmp/bad.h5"
printf 'X' | dd of="$tmp/bad.h5" bs=1 seek=2000 conv=notrunc 2> /dev/null
expect 1 'bad.h5' inspect "$tmp/bad.h5"
printf 'X' | dd of="$tmp/logits.h5" bs=1 seek=40 conv=notrunc 2> /dev/null
head -c 700 "$tmp/logits.h5" > "$tmp/cut.h5"
expect 1 'cut.h5' inspect "$tmp/cut.h5"
expect 0 'fc' show "$tmp/right.yaml" --cost
expect 0 '^# s1.b0.conv1 +1806336 +4 x 4 +65024 +7 x 4 +65024 +7 x 4 +34304' show recipes/integer-training/resnet20.yaml --arm lsq-g4 --cost
expect 0 '^# sum of the products +[0-9]+ +33.* % of them in integers' show recipes/integer-training/resnet20.yaml --arm lsq --cost
expect 0 '^# sum +361280 +592320 +61.0 %' show recipes/integer-training/resnet8.yaml "memory={codec: none}" --arm lsq-g4-n8 --cost
expect 0 '^# sum +169800 +607424 +28.0 %' show recipes/integer-training/resnet8.yaml --arm lsq-g4-n8-r2 --cost
expect 0 '^# conv1 +28224 +float +[0-9]+ +- +0 +float' show recipes/papers/shiftquant.yaml --arm fp32 --cost

# ---- gradcheck
expect 2 "did you mean 'conv2d'" gradcheck conv2
expect 0 'conv2d +[0-9]+ .*ok' gradcheck conv2d

# ---- bench
expect 2 "no quantizer or layer is named 'lsk', did you mean 'lsq'" bench lsk
expect 0 'lsq +of weights +\[512, 512\] +[0-9.]+ +[0-9.]+ +[0-9.]+' bench lsq
expect 0 'conv2d +lsq W4A4, shiftq G4 +\[64, 32, 14, 14\] ' bench conv2d
expect 0 'embedding +\[64, 128\] ' bench embedding

# ---- completion and man page
"$QTAPE_BIN" --completion bash > "$tmp/completion"
bash -n "$tmp/completion" || say 'the completion script does not parse'
complete_line() # what completing a command line offers
{
    COMP_LINE="qtape $1" COMP_POINT=$((${#1} + 6)) bash -c 'compopt() { :; }; . "$1"; PATH=$2:$PATH; _qtape; printf "%s\n" "${COMPREPLY[@]}"' - "$tmp/completion" "$(dirname "$QTAPE_BIN")"
}
for pair in 'tr:train' 'train --thr:--threads' 'list qu:quants' 'explain quant ls:lsq' 'train recipes/quickstart.yaml optim.l:optim.lr=' \
    'train recipes/quickstart.yaml ~optim.l:~optim.lr' 'check recipes/quick:recipes/quickstart.yaml' 'eval --split te:test' 'gradcheck conv:conv2d'; do
    complete_line "${pair%%:*}" | grep -qxF -- "${pair#*:}" || say "completing 'qtape ${pair%%:*}' does not offer ${pair#*:}: $(complete_line "${pair%%:*}" | tr '\n' ' ')"
done
"$QTAPE_BIN" --man > "$tmp/qtape.1"
if command -v groff > /dev/null; then
    warnings=$(groff -man -ww -Tutf8 "$tmp/qtape.1" 2>&1 > "$tmp/page")
    [ -z "$warnings" ] || say "man page: $warnings"
    sed 's/.\x08//g; s/\x1b\[[0-9]*m//g' "$tmp/page" | grep -q 'EXIT STATUS' || say 'the man page does not render'
fi

[ $failed = 0 ] && echo 'command line: all as expected'
exit $failed
