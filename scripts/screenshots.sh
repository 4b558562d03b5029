#!/usr/bin/env bash
# Pictures for the README, taken by headless Chromium from the report of `make quickstart`.
# On Debian: apt-get install chromium fonts-noto-cjk
#
#   scripts/screenshots.sh [REPORT.html [PICTURE.png [WIDTHxHEIGHT]]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

report=${1:-runs/quickstart/report.html}
picture=${2:-docs/images/report.png}
size=${3:-1200x1500}

fail() {
    printf '%s\nNext step: %s\n' "$1" "$2" >&2
    exit 1
}

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    fail "No Chromium was found." "apt-get install chromium"
[[ -n $(fc-list :lang=ja family 2>/dev/null) ]] ||
    fail "No Japanese font was found; the report's Japanese would be empty boxes." \
        "apt-get install fonts-noto-cjk"
[[ -f $report ]] || fail "There is no report at $report." "make quickstart"

options=(--headless=new --disable-gpu --hide-scrollbars --force-color-profile=srgb
    "--window-size=${size/x/,}" --virtual-time-budget=5000)
# Chromium's sandbox does not start for root, as in a container. The page is our own file.
[[ $(id -u) -ne 0 ]] || options+=(--no-sandbox)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! "$browser" "${options[@]}" "--user-data-dir=$work/profile" "--screenshot=$work/shot.png" \
    "file://$(realpath "$report")" >"$work/log" 2>&1 || [[ ! -s $work/shot.png ]]; then
    cat "$work/log" >&2
    fail "Chromium took no picture of $report." "read its messages above"
fi
mkdir -p "$(dirname "$picture")"
mv "$work/shot.png" "$picture"
printf '%s\n' "$picture"
