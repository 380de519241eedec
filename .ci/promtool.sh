#!/usr/bin/env bash
# promtool for the tests of the alert rules. A missing one is installed from Debian's package, which takes root.
set -euo pipefail

command -v promtool >/dev/null && exit 0
if [[ $(id -u) != 0 ]]; then
  echo "promtool: only root can install it: apt-get install prometheus" >&2
  exit 1
fi
echo "promtool: installing prometheus" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 \
  prometheus >/dev/null
