#!/usr/bin/env bash
# Chromium and its driver for the tests of the page. Missing ones are installed from Debian's packages, which takes root.
set -euo pipefail

command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit 0
if [[ $(id -u) != 0 ]]; then
  echo "browser: only root can install it: apt-get install chromium chromium-driver" >&2
  exit 1
fi
echo "browser: installing chromium and chromium-driver" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 \
  chromium chromium-driver >/dev/null
