#!/bin/sh
# Find a Chromium for the tests of the pages, or install one.
#
# On a machine that is ours alone (root, with apt: a container, continuous integration) it comes from the
# distribution; else from where Playwright has its own, into the user's cache. Without one these tests are
# skipped, and say so.
set -eu
cd "$(dirname "$0")/.."

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done
if .venv/test/bin/python -c '
import os, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    sys.exit(not os.path.exists(playwright.chromium.executable_path))
' 2>/dev/null; then
    exit 0
fi

echo "Installing a Chromium for the tests of the pages (about 300 MB)"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    if apt-get install -y -qq chromium >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; }; then
        exit 0
    fi
fi
.venv/test/bin/playwright install --only-shell chromium ||
    echo "There is no Chromium, and none could be installed: tests of the pages are skipped" >&2
