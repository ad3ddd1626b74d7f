#!/bin/bash
# `qtape report` and `qtape compare`: pages of whole, unfinished and damaged runs are well-formed, stand alone, and say what they should.
set -u
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
failed=0
say() { echo "$*"; failed=1; }

cat > demo.yaml << 'EOF'
recipe: 1
name: demo
doc: Three <small> nets & their grids
model: [flatten, {use: linear, out: 12, name: fc1}, relu, {use: linear, out: 10, name: fc2}]
data: {use: digits, batch_size: 32}
optim: {use: adam, lr: 1e-2}
train: {steps: 60, eval_every: 20, log_every: 1}
seeds: [1, 2]
arms:
  fp32: {}
  ternary: {quant: [{match: "*", weights: ternary}]}
  lsq: {quant: [{match: "*", weights: {use: lsq, num_bits: 3}, activations: {use: lsq, num_bits: 4, signed: false}}]}
claims:
  - {say: fp32 learns, arm: fp32, at_least: 0.3}
  - {say: "ternary is better than <fp32>", arm: ternary, at_least: {arm: fp32, plus: 0.5}}
EOF
"$QTAPE_BIN" reproduce demo.yaml -q > log 2>&1
[ $? = 3 ] || { say "reproduce: expected exit code 3"; cat log; }

# page FILE: well-formed, nothing loaded from elsewhere, no script, no number that is none
page()
{
    python3 - "$1" << 'EOF' || say "$1: see above"
import re, sys, xml.dom.minidom
text = open(sys.argv[1], encoding="utf-8").read()
document = xml.dom.minidom.parseString(text)
for e in document.getElementsByTagName("*"):
    if e.tagName == "script": sys.exit("a script")
    for name in ("src", "href", "data", "action"):
        value = e.getAttribute(name)
        if value and not value.startswith(("#", "../papers/", "papers/")): sys.exit(f"{e.tagName} has {name}={value}")
if re.search(r"url\(|@import|\bon[a-z]+=", text): sys.exit("something is loaded or run")
for e in document.getElementsByTagName("svg"):
    for x in [e] + list(e.getElementsByTagName("*")):
        for name, value in x.attributes.items():
            if name in ("d", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "viewBox") and re.search("nan|inf", value): sys.exit(f"{name}={value[:60]}")
            if name in ("cx", "x1", "x2") and not -20 <= float(value) <= 500: sys.exit(f"{name}={value} lies outside")
EOF
}
# has FILE TEXT ...
has() { local file=$1 text; shift; for text; do grep -qF -- "$text" "$file" || say "$file: has no '$text'"; done; }
# fails CODE TEXT COMMAND ...
fails()
{
    local code=$1 text=$2; shift 2
    "$QTAPE_BIN" "$@" > out 2> log; local got=$?
    [ $got = "$code" ] && grep -qF -- "$text" log || { say "qtape $*: exit code $got, expected $code with '$text'"; cat log; }
}

# a whole one
[ "$("$QTAPE_BIN" report runs/demo)" = runs/demo/report.html ] || say "report: does not print the path of its page"
page runs/demo/report.html
has runs/demo/report.html 'Three &lt;small&gt; nets &amp; their grids' 'badge fail' 'badge pass' 'ternary is better than &lt;fp32&gt;' 'fc1.weight' \
    'seed 2' 'Training loss' 'Test accuracy' 'What the bytes of the model buy' 'lsq, 3 bits' 'weight / scale' 'qtape reproduce demo.yaml --seeds 1,2' 'prefers-color-scheme'
grep -q 'Missing or not' runs/demo/report.html && say "something is missing in a whole report"
"$QTAPE_BIN" report runs/demo -o again.html > log && cmp -s again.html runs/demo/report.html || say "the same runs give another page"
"$QTAPE_BIN" report runs -o all.html > log && cmp -s again.html all.html || say "a folder of roots is not what is in it"
"$QTAPE_BIN" report runs/demo/lsq-s1 runs/demo/ternary-s2/ -o two.html > log || say "two runs: no report"
page two.html; has two.html 'not judged' '2 arms, 2 runs'

# an unfinished one, a long one, damaged ones
cp -r runs/demo broken
rm -r broken/results.json broken/fp32-s1 broken/fp32-s2/DONE broken/lsq-s1/env.json broken/lsq-s2/resolved.yaml
printf '{"event": "step", "step": 61, "loss": 1e999, "accuracy"' >> broken/fp32-s2/metrics.jsonl
head -c 3000 /dev/urandom > broken/ternary-s1/metrics.jsonl
sed -i '3s/.*/{"event": "eval", "step": "many"}/; 5s/.*/garbage/' broken/ternary-s2/metrics.jsonl
printf 'x' | dd of=broken/ternary-s1/ckpt/last.h5 bs=1 seek=3000 conv=notrunc 2> /dev/null
: > broken/ternary-s2/resolved.yaml
rm broken/lsq-s2/metrics.jsonl
awk 'BEGIN { for (i = 1; i <= 100000; i++) printf "{\"event\": \"step\", \"step\": %d, \"epoch\": 0, \"split\": \"train\", \"loss\": %g, \"lr\": 0.1}\n", i, 2 + cos(i) }' > broken/lsq-s1/metrics.jsonl
"$QTAPE_BIN" report broken > log 2>&1 || { say "broken: no report"; cat log; }
page broken/report.html
has broken/report.html 'no results.json' 'arm fp32 has no run of seed 1' 'fp32-s2: not finished, it stands at step 60' '1 of ' 'lines are no events' 'broken/lsq-s2: no metrics.jsonl' \
    'ternary-s2/resolved.yaml' 'not judged'
[ "$(wc -c < broken/report.html)" -lt 1000000 ] || say "a hundred thousand steps are not thinned"
printf '{"recipe": "demo", "arms": [' > broken/results.json
"$QTAPE_BIN" report broken > log 2>&1 || say "damaged results.json: no report"
page broken/report.html; has broken/report.html 'broken/results.json'

# nothing at all
mkdir empty
fails 1 'empty: nothing of a run in it' report empty
fails 1 'nowhere: No such file or directory' report nowhere
fails 1 'demo.yaml: is no folder' report demo.yaml -o a.html
fails 2 'say one with -o FILE' report runs/demo broken
[ -e empty/report.html ] && say "a refused report left something behind"
"$QTAPE_BIN" report empty runs/demo -o some.html > log 2>&1 || say "one empty folder of two: no report"
has some.html 'left out: empty: nothing of a run in it'

# a sweep: its axes are pictures
cat > swept.yaml << 'EOF'
recipe: 1
name: swept
vars: {w: 8}
model: [flatten, {use: linear, out: "${w}", name: fc1}, relu, {use: linear, out: 10, name: fc2}]
data: {use: digits, batch_size: 32}
optim: {use: adam, lr: 1e-2}
train: {steps: 20}
sweep: {width: {w4: {vars.w: 4}, w8: {vars.w: 8}}, optim.lr: [1e-2, 3e-2]}
EOF
"$QTAPE_BIN" reproduce swept.yaml -q > log 2>&1 && "$QTAPE_BIN" report runs/swept -o swept.html > log || { say "sweep: no report"; cat log; }
page swept.html; has swept.html 'The sweep' 'accuracy by width and optim.lr' 'accuracy by optim.lr and width' 'What arithmetic buys'
rm -r runs/swept

# a gallery, from a root and then from itself alone
mkdir -p docs/papers docs/results && printf '# A demonstration | of <all>\n' > docs/papers/demo.md
[ "$("$QTAPE_BIN" report --gallery docs/results runs/demo)" = docs/results/index.html ] || say "gallery: not made"
page docs/results/index.html; page docs/results/papers/demo/arms.svg
has docs/results/index.html 'A demonstration | of &lt;all&gt;' 'badge fail' '1 of 2 claims hold' 'qtape reproduce demo.yaml' '../papers/demo.md' '2 seeds'
has docs/results/README.md '| **FAIL** | [A demonstration \| of \<all\>](../papers/demo.md)' '[1 of 2](papers/demo/results.md)' '](papers/demo/arms.svg)'
cp -r docs/results first && "$QTAPE_BIN" report --gallery docs/results > log && diff -r first docs/results || say "gallery: not the same from its own results"
mkdir -p docs/results/papers/torn && head -c 400 runs/demo/results.json > docs/results/papers/torn/results.json
"$QTAPE_BIN" report --gallery docs/results > log || say "gallery: fails for one damaged result"
has docs/results/index.html 'papers/torn/results.json'
fails 1 'no papers/NAME/results.json in it' report --gallery empty
fails 1 'only a `reproduce` that has come to its end' report --gallery docs/results empty
fails 2 'takes no -o' report --gallery docs/results -o a.html
fails 2 'a folder is missing' report
echo 'my own' > docs/results/README.md
fails 2 'is not overwritten' report --gallery docs/results

# compare: the same bits but for timing, and where two runs part
"$QTAPE_BIN" train demo.yaml --arm lsq seed=1 --run same -q > log 2>&1
"$QTAPE_BIN" compare runs/demo/lsq-s1 same --exact > out 2> log || say "compare: the same run differs: $(cat out log)"
has out 'the same in all' 'the same bits in all'
"$QTAPE_BIN" compare runs/demo/lsq-s1 runs/demo/ternary-s1 > out 2> log || say "compare: fails where two runs differ"
has out 'quant[0].weights' '| ternary' 'metrics differ first in line 1' 'params/fc1.bias' 'params/fc1.weight.scale                  only in A' 'the largest difference'
fails 3 'differ' compare runs/demo/lsq-s1 runs/demo/lsq-s2 --exact
"$QTAPE_BIN" compare runs/demo/lsq-s1/ckpt/last.h5 same/ckpt/last.h5 --exact > out 2> log || say "compare: the same checkpoints differ"
head -n 30 runs/demo/lsq-s1/metrics.jsonl > same/metrics.jsonl
"$QTAPE_BIN" compare runs/demo/lsq-s1 same > out 2> log; has out 'metrics differ first in line 31' 'B (ended)' 'the same bits in all'
for lr in 0.01 0.02; do "$QTAPE_BIN" train demo.yaml --arm lsq seed=1 optim.lr=$lr train.save_every=1 train.keep=9 --run lr-$lr -q > log 2>&1; done
"$QTAPE_BIN" compare lr-0.01 lr-0.02 > out 2> log; has out 'checkpoints differ first at step '
fails 2 'is no run directory' compare same same/ckpt/last.h5
fails 1 'ternary-s1/ckpt/last.h5' compare broken/ternary-s1 runs/demo/ternary-s1

[ $failed = 0 ] && echo 'report: pages are well-formed, stand alone and say what is missing; compare says where runs part'
exit $failed
