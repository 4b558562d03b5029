#!/usr/bin/env bash
# Pictures for the README, taken by headless Chromium from the run of `make quickstart`:
# docs/images/{report,samples}-{ja,en}.png, report-dark.png, report-phone.png
#
# On Debian: apt-get install chromium fonts-noto-cjk
# The pages are written anew in both languages, so the pictures show this version's.
#
#   scripts/screenshots.sh [RUN]
set -euo pipefail
cd "$(dirname "$0")/.."

run=${1:-runs/quickstart}
samples=$run/samples/record.jsonl
python=${PYTHON:-.venv/bin/python}
images=docs/images

fail() {
    printf '%s\nNext step: %s\n' "$1" "$2" >&2
    exit 1
}

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    fail "No Chromium was found." "apt-get install chromium"
[[ -n $(fc-list :lang=ja family 2>/dev/null) ]] ||
    fail "No Japanese font was found; the pages' Japanese would be empty boxes." \
        "apt-get install fonts-noto-cjk"
[[ -f $run/record.jsonl ]] || fail "There is no run at $run." "make quickstart"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" - "$run" "$samples" "$work" <<'PYTHON'
import sys
from pathlib import Path

from manako.report.run import write_run_report
from manako.report.samples import write_samples_page

run, samples, work = map(Path, sys.argv[1:])
for lang in ("ja", "en"):
    write_run_report(run, lang=lang, out=work / f"report-{lang}.html")
    if samples.is_file():
        write_samples_page(samples, work / f"samples-{lang}.html", lang=lang, title=run.name)
PYTHON

options=(--headless --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb)
# Chromium's sandbox does not start for root, as in a container. The pages are our own files.
[[ $(id -u) -ne 0 ]] || options+=(--no-sandbox)

# shoot PAGE PICTURE WIDTH,HEIGHT [CHROMIUM OPTION...]
shoot() {
    local page=$work/$1 picture=$2 size=$3
    shift 3
    [[ -f $page ]] || return 0
    if ! "$browser" "${options[@]}" "--user-data-dir=$work/profile" "--window-size=$size" \
        "--screenshot=$work/$picture" "$@" "file://$page" >"$work/log" 2>&1 ||
        [[ ! -s $work/$picture ]]; then
        cat "$work/log" >&2
        fail "Chromium took no picture of $page." "read its messages above"
    fi
    "$python" - "$work/$picture" "$images/$picture" <<'PYTHON'
import sys

from PIL import Image

source, target = sys.argv[1:]
colours = Image.open(source).convert("RGB").quantize(256, dither=Image.Dither.NONE)
colours.save(target, optimize=True)
PYTHON
    printf '%s\n' "$images/$picture"
}

mkdir -p "$images"
for lang in ja en; do
    shoot "report-$lang.html" "report-$lang.png" 1280,2000
    shoot "samples-$lang.html" "samples-$lang.png" 1280,1400
done
shoot report-ja.html report-dark.png 1280,1400 --blink-settings=preferredColorScheme=0
shoot report-ja.html report-phone.png 390,1400
