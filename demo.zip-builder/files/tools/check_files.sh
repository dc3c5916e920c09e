#!/usr/bin/env bash
# Checks every file of demo.zip against SHA256SUMS; one that is damaged or missing ends it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

[ -e SHA256SUMS ] || exit 0
status=0
wrong=$(LC_ALL=C sha256sum --check --quiet --strict SHA256SUMS 2>/dev/null) || status=$?
[ "$status" -eq 0 ] && exit 0
wrong=${wrong%%:*}
printf 'check: %s is not as it was published: unpack demo.zip again; or, if you changed it %s\n' \
  "${wrong:-SHA256SUMS}" 'yourself, remove SHA256SUMS, and nothing is checked any more.' >&2
exit 1
