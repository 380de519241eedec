#!/usr/bin/env bash
# Debian's packages for tests: Chromium and its driver for the page, promtool for the alert rules.
# Missing ones are installed, which takes root.
set -euo pipefail

missing=()
command -v chromium >/dev/null && command -v chromedriver >/dev/null || missing+=(chromium chromium-driver)
command -v promtool >/dev/null || missing+=(prometheus)
[[ ${#missing[@]} == 0 ]] && exit 0
if [[ $(id -u) != 0 ]]; then
  echo "packages: only root can install them: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "packages: installing ${missing[*]}" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 \
  "${missing[@]}" >/dev/null
