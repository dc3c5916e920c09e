#!/usr/bin/env bash
# Makes .venv, the kit's Python environment, from environment.lock. Says and does nothing when
# .venv is up to date; otherwise, also after an interruption or a move of the folder, makes it anew.
# In the folder of demo.zip, which has no environment.yml, it does so from requirements.txt.
#
# Usage: [PYTHON=/a/python3.10/to/try/first] bash tools/set_up.sh      (make and run.sh call it)
#
# uv does the work: the one on PATH, or one at the lock's version and hash in .venv/.uv. But for its
# cache and the Python 3.10 that it may download, nothing is written outside .venv. Every download
# has its hash in the lock: so only wheels are installed, and the kit itself without build
# isolation, which would fetch a build backend beside the lock (hatchling and editables are in it).
set -euo pipefail

# Settings of the caller that would send packages elsewhere or change which are chosen.
unset CDPATH PYTHONHOME PYTHONPATH VIRTUAL_ENV UV_CONSTRAINT UV_NO_BINARY UV_PYTHON UV_SYSTEM_PYTHON
unset PIP_CONSTRAINT PIP_NO_BINARY PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER

cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
venv=$PWD/.venv
PATH=${PATH/"$venv/bin:"/} # .venv may be activated, and is emptied before anything is installed
stamp=$venv/.set-up-stamp
own_uv=$venv/.uv
oldest_uv=0.6.0 # that was tried
venv_gb=8       # 5.2 GB installed, and what uv unpacks meanwhile
lock=requirements.txt
[ ! -e environment.yml ] || lock=environment.lock

fail() {
  printf 'set-up: %s\n' "$*" >&2
  exit 1
}

# What .venv is made from, and where: the scripts in a moved or copied one name the old place.
wanted_stamp() {
  { cat environment* "$lock" pyproject.toml tools/set_up.sh 2>/dev/null || true; pwd; } | sha256sum
}

# The stamp is written when an installation is complete; the Python below may have gone since.
is_current() {
  [ -f "$stamp" ] && [ "$(cat -- "$stamp")" = "$(wanted_stamp)" ] &&
    "$venv/bin/python" -I -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null
}

# Whether a folder can grow to so many GB, what it holds already included; sets room, in GB.
has_room() {
  local folder=$1 needed=$(($2 << 20)) free
  [ -d "$folder" ] || folder=.
  free=$(df -Pk -- "$folder/" | sed -n '$s/.* \([0-9][0-9]*\)  *[0-9]*% .*/\1/p')
  [ "${free:-$needed}" -lt "$needed" ] || return 0
  [ ! -d "$1" ] || free=$((free + $(du -sk -- "$1/" 2>/dev/null | cut -f 1)))
  room=$((free >> 20))
  [ "$free" -ge "$needed" ]
}

check_machine() {
  local machine libc
  machine="$(uname -s) $(uname -m)"
  [ "$machine" = 'Linux x86_64' ] ||
    fail "This machine is $machine, but OneFlow 0.9.0 and Triton 2.51.0 are built for x86-64" \
      'Linux only: use such a machine, real or virtual.'
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
  printf '%s\n' 'glibc 2.35' "$libc" | sort -VC ||
    fail "The C library here is ${libc:-not glibc (perhaps musl)}, but Triton 2.51.0 needs glibc" \
      '2.35 or newer: use a newer distribution, such as Ubuntu 22.04 or Debian 12.'
  [ "$lock" = requirements.txt ] || bash tools/lock.sh --check ||
    fail 'environment.lock does not match environment.yml: run' \
      '"make lock", or undo the change to environment.yml.'
  has_room "$venv" "$venv_gb" ||
    fail "There are $room GB free for $venv, but its installation needs $venv_gb GB: make room," \
      'or make .venv a link to a folder on a larger disk.'
}

# Ends as fail does, and leaves nothing behind of what was made to get uv.
refuse() {
  rm -rf -- "$own_uv" "$venv/.cache"
  rmdir -- "$venv" 2>/dev/null || true
  fail "$@"
}

# The last line of what a tool said, for a sentence of our own.
last_of() {
  sed -n '$s/^ *\(cause: \)*//p' <<<"$1"
}

find_uv() {
  for uv in "$(type -P uv)" "$own_uv/bin/uv"; do
    printf '%s\n' "uv $oldest_uv" "$("$uv" --version 2>/dev/null)" | sort -VC && return
  done
  return 1
}

# Gets uv with the pip of any Python; of some, pip is only in a virtual environment.
get_uv() {
  local python words='there is no Python'
  while IFS= read -r python <&3; do
    echo "Getting uv with the pip of $python ..."
    rm -rf -- "$own_uv"
    mkdir -p -- "$own_uv"
    sed -n '/^uv==/,/[^\\]$/p' "$lock" >"$own_uv/requirements.txt"
    if ! "$python" -m pip --version && "$python" -m venv "$own_uv/pip"; then
      python=$own_uv/pip/bin/python
    fi >/dev/null 2>&1
    words=$("$python" -m pip install --quiet --retries 2 --require-hashes --no-deps \
      --only-binary :all: --target "$own_uv" --requirement "$own_uv/requirements.txt" 2>&1) &&
      find_uv && return
  done 3< <(type -aP -- "${PYTHON:-}" python3.10 python3 python)
  refuse "uv is not on PATH and could not be downloaded ($(last_of "$words")): install uv, or a" \
    'Python 3 with pip (Debian, Ubuntu: apt install python3-pip), and connect to the package index.'
}

# Ends with the reason if the packages or Triton's stub could not work with a Python.
probe='
import ctypes, os, ssl, sys, sysconfig, zlib
library = "libpython3.10.so.1.0"
libdir, multiarch = sysconfig.get_config_vars("LIBDIR", "MULTIARCH")
folders = f"{libdir}", f"{libdir}/{multiarch}", f"{sys.base_prefix}/lib"
sys.version_info[:2] == (3, 10) or sys.exit("it is not Python 3.10")
any(os.path.exists(f"{folder}/{library}") for folder in folders) or ctypes.CDLL(library)'

find_python() {
  while IFS= read -r python <&3; do
    words=$("$python" -I -c "$probe" 2>&1) && return
    flaw=${flaw:-$python: $(last_of "$words")}
  done 3< <(type -P -- "${PYTHON:-}" || true; "$uv" python list --only-installed 2>/dev/null |
    sed -n 's/ -> .*//; s/^cpython-3\.10\.[0-9]*-linux-x86_64-gnu *//p')
  return 1
}

get_python() {
  local words
  echo "No usable Python 3.10 on this machine (${flaw:=there is none}): getting one with uv ..."
  words=$(UV_PYTHON_INSTALL_BIN=0 "$uv" python install 3.10 2>&1) && find_python && return
  refuse "No usable Python 3.10 was found ($flaw) and uv could not get one ($(last_of "$words")):" \
    'install CPython 3.10 with its shared library (Ubuntu 22.04: apt install python3.10' \
    'libpython3.10; elsewhere: conda, pyenv or uv), or name one with PYTHON=/path/to/python3.10.'
}

# A company's proxy may sign with a certificate that only the system's store knows. And uv keeps
# all that it installs in its cache: where that cannot hold it, .venv does until the end.
configure_uv() {
  local cache
  if [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ]; then
    export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_NATIVE_TLS=${UV_NATIVE_TLS:-true}
  fi
  cache=$("$uv" cache dir)
  mkdir -p -- "$cache" 2>/dev/null && [ -w "$cache" ] && has_room "$cache" 6 && return
  echo "uv's cache $cache is not writable or has no room for 6 GB: it is not used."
  export UV_CACHE_DIR=$venv/.cache
}

# On a terminal uv shows its progress; elsewhere it says only what went wrong.
run_uv() {
  if [ -t 2 ]; then "$uv" "$@"; else "$uv" --quiet "$@"; fi ||
    fail 'The environment could not be installed: the lines above say why. Usually the network cannot' \
      'be reached or a disk is full: fix that and run the same command again; downloads are kept.'
}

install() {
  local packages=$venv/.requirements.txt
  local load='import ctypes; ctypes.CDLL("libGL.so.1"); ctypes.CDLL("libgthread-2.0.so.0")'
  [ ! -e "$venv/bin" ] || echo 'Rebuilding .venv: it is unfinished, out of date or moved.'
  mkdir -p -- "$venv"
  find "$venv/" -mindepth 1 -maxdepth 1 ! -name .uv -exec rm -rf -- {} +
  run_uv venv --quiet --allow-existing --python "$python" "$venv"
  cat -- "$lock" >"$packages"
  if [ "$lock" = environment.lock ] && ! "$venv/bin/python" -I -c "$load" 2>/dev/null; then
    echo 'libGL.so.1 or libgthread-2.0.so.0 is missing: opencv-python-headless replaces' \
      'opencv-python (cv2 is the same except for its windows, which the kit does not use).'
    sed '/^opencv-python==/,/[^\\]$/d' "$lock" | cat - environment-headless.lock >"$packages"
  fi
  echo "Installing $(grep -c '^[a-z0-9].*==' "$packages") packages, about 5 GB, with uv ..."
  run_uv pip sync --python "$venv/bin/python" --require-hashes --only-binary :all: "$packages"
  [ "$lock" = requirements.txt ] ||
    run_uv pip install --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
  rm -rf -- "$packages" "$venv/.cache"
  wanted_stamp >"$stamp.new"
  mv -- "$stamp.new" "$stamp"
}

is_current && exit
check_machine
# One at a time. uv inherits the descriptor: if it outlives a killed set-up, the next one waits.
exec 9>>"$lock"
if ! flock --nonblock 9; then
  echo 'Another set-up is running in this folder, waiting for it ...'
  flock 9
fi
is_current && exit
trap 'echo "Interrupted: the next run continues with what was downloaded."; exit 130' INT TERM
# A shim of pyenv fails unless its Python was selected: what lies behind it goes on PATH, too.
PATH+=$(type -aP python3 "${HOME:-}/.pyenv/shims/python3" | sed -n 's|/shims/python3$||p' |
  while IFS= read -r pyenv; do printf ':%s' "$pyenv"/versions/3.10.*/bin; done) || true
find_uv || get_uv
configure_uv
find_python || get_python
install
echo "The environment in .venv is ready after $SECONDS s."
