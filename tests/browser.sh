#!/bin/bash
# Pages in a real browser, headless Chromium: at the widths of a phone, a tablet and a desk, light and dark, nothing is wider than the window, no text
# of a plot leaves its picture, and the two themes are two pictures. Skipped (77) without Chromium. Pictures stay in $QTAPE_SHOTS if that is set.
set -u
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || { echo 'browser: no chromium, skipped'; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
say() { echo "$*"; failed=1; }
cd "$tmp" || exit 1

# chrome THEME WIDTH ARGUMENTS ...
chrome()
{
    local theme=$1 width=$2; shift 2
    timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --user-data-dir="$tmp/profile" \
        --blink-settings=preferredColorScheme=$([ "$theme" = dark ] && echo 0 || echo 1) --window-size="$width,1500" --virtual-time-budget=4000 "$@" 2> chrome.log
}
chrome light 600 --dump-dom 'data:text/html,<p>here</p>' | grep -q here || { echo 'browser: chromium does not start here, skipped'; exit 77; }

cat > demo.yaml << 'EOF'
recipe: 1
name: demo
doc: Two nets and their grids
model: [flatten, {use: linear, out: 12, name: a_layer_with_quite_a_long_name_indeed}, relu, {use: linear, out: 10, name: fc2}]
data: {use: digits, batch_size: 32}
optim: {use: adam, lr: 1e-2}
train: {steps: 60, eval_every: 20, log_every: 1}
seeds: [1, 2]
arms:
  fp32: {}
  an-arm-with-a-long-name: {quant: [{match: "*", weights: {use: lsq, num_bits: 3}, activations: {use: lsq, num_bits: 4, signed: false}}]}
claims: [{say: fp32 learns, arm: fp32, at_least: 0.3}]
EOF
"$QTAPE_BIN" reproduce demo.yaml -q > log && "$QTAPE_BIN" report runs/demo -o report.html > log && "$QTAPE_BIN" report --gallery results runs/demo > log ||
    { say "no pages"; cat log; }

# The page in a frame of the very width, all details open; what is too wide is listed in the title of the page around it.
# measure PAGE WIDTH: "fits", or what does not
measure()
{
    cat > frame.html << EOF
<!DOCTYPE html><title>?</title><body style="margin:0"><iframe src="$1" style="border:0;width:$2px;height:1200px"></iframe><script>
onload = () => {
    const d = document.querySelector('iframe').contentDocument, wide = [];
    d.querySelectorAll('details').forEach(x => x.open = true);
    if (d.documentElement.scrollWidth > $2) wide.push('page: ' + d.documentElement.scrollWidth);
    d.querySelectorAll('svg.plot').forEach(s => { const b = s.getBoundingClientRect(); s.querySelectorAll('text').forEach(t => {
        const r = t.getBoundingClientRect(); if (r.width && (r.left < b.left - 2 || r.right > b.right + 2)) wide.push(s.getAttribute('aria-label') + ': ' + t.textContent); }); });
    document.title = wide.length ? 'too wide: ' + wide.join('; ') : 'fits ' + d.querySelectorAll('svg.plot').length;
};</script></body>
EOF
    chrome light 1600 --allow-file-access-from-files --dump-dom "file://$tmp/frame.html" | sed -n 's/.*<title>\(.*\)<\/title>.*/\1/p' | head -n 1
}
for page in report.html results/index.html; do
    for width in 390 820 1400; do
        got=$(measure "$page" $width)
        case $got in 'fits '[1-9]*) ;; *) say "$page at $width: ${got:-no answer: $(tail -n 3 chrome.log)}" ;; esac
        for theme in light dark; do
            shot=$(echo "${page%.html}" | tr / -)-$width-$theme.png
            chrome $theme $width --screenshot="$tmp/$shot" "file://$tmp/$page" > log
            [ -s "$shot" ] || say "$page at $width, $theme: no picture"
            [ -n "${QTAPE_SHOTS-}" ] && mkdir -p "$QTAPE_SHOTS" && cp "$shot" "$QTAPE_SHOTS/"
        done
        cmp -s "${shot/-dark/-light}" "$shot" && say "$page at $width: dark is as light"
    done
done
[ $failed = 0 ] && echo 'browser: two pages fit at three widths, in two themes'
exit $failed
