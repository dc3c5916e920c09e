#!/usr/bin/env bash
# Compiles the list in environment.yml into the lock files beside it:
#   environment.lock           every package with its version and hashes; tools/set_up.sh installs it
#   environment-headless.lock  the OpenCV for machines that lack the libraries of a desktop
#   environment-conda.lock     the versions of environment.lock without the hashes: pip refuses
#                              "-e ." (environment.yml, for conda) beside anything with a hash
#
# Usage: tools/lock.sh [OPTION ...]   OPTIONs go to "uv pip compile", such as --upgrade; without
#                                     any, versions that still fit the list stay as they are
#        tools/lock.sh --check        exit code 1 if a lock was made from another list
set -euo pipefail

unset CDPATH
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)

fail() {
  printf 'lock: %s\n' "$*" >&2
  exit 1
}

# The pinned packages, one a line: the pip section without its options (-c, -e).
list() {
  sed -n 's/^      - \([A-Za-z0-9].*\)$/\1/p' "$root/environment.yml"
}

list_hash() {
  list | sha256sum | cut -d ' ' -f 1
}

# The header line by which a lock names the list it was made from.
origin() {
  printf '# sha256 of the list: %s\n' "$1"
}

check() {
  local expected file
  expected=$(origin "$(list_hash)")
  for file in environment.lock environment-headless.lock environment-conda.lock; do
    grep -qsxF -- "$expected" "$root/$file" || return 1
  done
}

find_uv() {
  local candidate
  for candidate in "$(type -P uv || true)" "$root/.venv/bin/uv"; do
    if [ -x "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  fail 'uv was not found on PATH or in .venv: install it, for example with "pip install uv".'
}

header() {
  printf '# %s\n' "$1" \
    'For CPython 3.10 on x86-64 Linux with glibc 2.35 or newer.' \
    'Made by tools/lock.sh from environment.yml; do not edit: renew it with "make lock".'
  origin "$(list_hash)"
}

# Wheels only: to build a source distribution would download what no lock names.
compile() {
  "$uv" pip compile --quiet --no-header --python-version 3.10 \
    --python-platform x86_64-manylinux_2_35 --only-binary :all: "$@"
}

compile_all() {
  list >list.in
  if [ -f "$root/environment.lock" ]; then
    cp -- "$root/environment.lock" all.lock
  fi
  compile --generate-hashes --output-file all.lock "$@" list.in
  sed -n 's/^opencv-python==/opencv-python-headless==/p' list.in >headless.in
  compile --generate-hashes --no-deps --no-annotate --output-file headless.lock headless.in
}

# Written at the end, so that a failed compilation leaves the locks as they were.
write_locks() {
  {
    header 'Every package of the environment, with version and hashes.'
    sed -e '/^#/d' -e 's/-r list\.in/-r environment.yml/' all.lock
  } >"$root/environment.lock"
  {
    header 'OpenCV for machines without libGL.so.1 and libgthread-2.0.so.0.'
    sed '/^#/d' headless.lock
  } >"$root/environment-headless.lock"
  {
    header 'The versions of environment.lock without hashes: pip refuses "-e ." beside hashes.'
    sed -n 's/^\([a-z0-9][^ ]*==[^ ]*\).*$/\1/p' all.lock
  } >"$root/environment-conda.lock"
}

main() {
  if [ "${1:-}" = --check ]; then
    check
    return
  fi
  uv=$(find_uv)
  folder=$(mktemp -d)
  trap 'rm -rf -- "$folder"' EXIT
  cd -- "$folder"
  compile_all "$@"
  write_locks
}

main "$@"
