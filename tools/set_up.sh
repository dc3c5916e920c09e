#!/usr/bin/env bash
# Makes .venv, the kit's Python environment, from environment.lock. Says and does nothing when
# .venv is up to date; after an interruption, a move or a copy of the folder it makes it anew.
# In the folder of demo.zip, which has no environment.yml, it does so from requirements.txt.
#
# Usage: bash tools/set_up.sh        (make runs it before every other rule, run.sh of demo.zip too)
#
# Environment variables:
#   PYTHON         a Python 3.10 to try before those on PATH, from pyenv, conda and uv
#   KIT_INSTALLER  uv or pip; without it uv where it can be had, else pip
#   KIT_OPENCV     full or headless; without it headless only where the libraries that
#                  opencv-python needs (libGL.so.1, libgthread-2.0.so.0) do not load
#
# Nothing is written outside .venv but the installers' own caches and, on a machine without
# Python 3.10, the Python that uv downloads to its usual place.
#
# Every download is one that the lock names by hash. That is why only wheels are installed, and
# the kit itself without build isolation: an isolated build would fetch its build backend beside
# the lock, so hatchling and editables are in it instead. uv and pip are in it too.
set -euo pipefail

# Settings of the caller that would send packages elsewhere or change which are chosen.
unset CDPATH PYTHONHOME PYTHONPATH VIRTUAL_ENV
unset PIP_CONSTRAINT PIP_NO_BINARY PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER
unset UV_CONSTRAINT UV_NO_BINARY UV_PYTHON UV_SYSTEM_PYTHON

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
venv=$root/.venv
stamp=$venv/.set-up-stamp
log=$venv/set-up.log
bootstrap=$venv/.bootstrap
requirements=$venv/.requirements.txt
scratch=$venv/.tmp

if [ -e environment.yml ]; then
  lock=environment.lock
  inputs_of_stamp=(environment.yml environment.lock environment-headless.lock pyproject.toml)
else
  lock=requirements.txt
  inputs_of_stamp=(requirements.txt)
fi

venv_gb=8             # 5.2 GB installed, and 2.2 GB of wheels while pip installs
venv_and_pip_cache_gb=11
uv_cache_gb=6

say() {
  printf '%s\n' "$*"
}

fail() {
  printf 'set-up: %s\n' "$*" >&2
  exit 1
}

# --- Is there anything to do? -----------------------------------------------------------------

hash_of_inputs() {
  cat "${inputs_of_stamp[@]}" tools/set_up.sh | sha256sum | cut -d ' ' -f 1
}

read_stamp() {
  local key value
  stamp_inputs='' stamp_root='' stamp_opencv=''
  [ -f "$stamp" ] || return 0
  while read -r key value; do
    case $key in
      inputs) stamp_inputs=$value ;;
      root) stamp_root=$value ;;
      opencv) stamp_opencv=$value ;;
    esac
  done <"$stamp"
}

# Written last and in one step: no stamp means that an installation did not come to its end.
write_stamp() {
  {
    printf 'inputs %s\n' "$inputs"
    printf 'root %s\n' "$root"
    printf 'opencv %s\n' "$opencv"
    "$venv/bin/python" -I -c 'import sys; print("python", sys.version.split()[0], sys.base_prefix)'
  } >"$stamp.new"
  mv -- "$stamp.new" "$stamp"
}

# The Python below .venv may have been removed or replaced since: only running it tells.
venv_runs() {
  "$venv/bin/python" -I -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null
}

# Finished here (a moved or copied .venv has scripts that name the old place), and it runs.
venv_is_whole() {
  read_stamp
  [ "$stamp_root" = "$root" ] && venv_runs
}

is_current() {
  venv_is_whole && [ "$stamp_inputs" = "$inputs" ] &&
    { [ "$lock" = requirements.txt ] || [ "${KIT_OPENCV:-$stamp_opencv}" = "$stamp_opencv" ]; }
}

# --- Refusals, before anything is created -----------------------------------------------------

check_options() {
  case ${KIT_INSTALLER:-uv} in
    uv | pip) ;;
    *) fail "KIT_INSTALLER is \"$KIT_INSTALLER\", but must be uv or pip." ;;
  esac
  case ${KIT_OPENCV:-full} in
    full | headless) ;;
    *) fail "KIT_OPENCV is \"$KIT_OPENCV\", but must be full or headless." ;;
  esac
}

check_machine() {
  local machine
  machine="$(uname -s) $(uname -m)"
  [ "$machine" = 'Linux x86_64' ] ||
    fail "This machine is $machine, but OneFlow 0.9.0 and Triton 2.51.0 are built for x86-64" \
      'Linux only: use such a machine, real or virtual.'
}

check_c_library() {
  local found lowest
  found=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
  lowest=$(printf '%s\nglibc 2.35\n' "$found" | sort -V | head -n 1)
  [ "$lowest" = 'glibc 2.35' ] && return
  fail "The C library here is ${found:-not glibc (perhaps musl)}, but Triton 2.51.0 needs glibc" \
    '2.35 or newer: use a newer distribution, such as Ubuntu 22.04 or Debian 12.'
}

check_lock() {
  [ "$lock" = environment.lock ] || return 0
  bash tools/lock.sh --check ||
    fail 'environment.lock was not made from the list in environment.yml as it is now: run' \
      '"make lock", or undo the change to environment.yml.'
}

# KiB left on the file system where a folder is or will be; nothing where df does not know.
free_kib() {
  local folder=$1
  while [ ! -d "$folder" ]; do
    folder=$(dirname -- "$folder")
  done
  df -Pk -- "$folder/" | sed -n '$s/.* \([0-9]*\)  *[0-9]*% .*/\1/p'
}

# Whether a folder can grow to so many GB, what it holds already included; sets room, in GB.
can_hold() {
  local folder=$1 needed=$(($2 * 1048576)) free used=''
  free=$(free_kib "$folder")
  [ "${free:-$needed}" -lt "$needed" ] || return 0
  [ ! -d "$folder" ] || used=$(du -sk -- "$folder/" 2>/dev/null | cut -f 1)
  free=$((free + ${used:-0}))
  room=$((free / 1048576)).$((free % 1048576 * 10 / 1048576))
  [ "$free" -ge "$needed" ]
}

check_space() {
  can_hold "$venv" "$venv_gb" ||
    fail "There are $room GB free for $venv, but its installation needs $venv_gb GB: make room," \
      'or make .venv a link to a folder on a larger disk.'
}

# --- One set-up at a time ---------------------------------------------------------------------

# The lock file is opened, not written; installers inherit the descriptor, so one that outlives
# a killed set-up still keeps the next one waiting.
wait_for_other_set_up() {
  command -v flock >/dev/null || return 0
  exec 9>>"$lock"
  flock --nonblock 9 && return
  say 'Another set-up is running in this folder, waiting for it ...'
  flock 9
}

# --- Python 3.10 ------------------------------------------------------------------------------

# Prints "usable VERSION PATH" (of the Python itself, not of a virtual environment made from
# it), "other VERSION", or "flawed REASON".
probe='
import os, sys, sysconfig

LIBPYTHON = "libpython3.10.so.1.0"

def missing_module():
    for name in ("ctypes", "ssl", "venv", "zlib"):
        try:
            __import__(name)
        except ImportError:
            return name

def has_libpython():
    import ctypes
    libdir = sysconfig.get_config_var("LIBDIR") or ""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = libdir, os.path.join(libdir, multiarch), os.path.join(sys.base_prefix, "lib")
    if any(os.path.exists(os.path.join(folder, LIBPYTHON)) for folder in folders):
        return True
    try:
        ctypes.CDLL(LIBPYTHON)
    except OSError:
        return False
    return True

def answer():
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != (3, 10):
        return "other " + version
    if sys.implementation.name != "cpython":
        return "flawed is " + sys.implementation.name + ", not CPython"
    if sys.maxsize < 2**32:
        return "flawed is a 32-bit Python"
    if missing_module():
        return "flawed lacks the module " + missing_module()
    if not has_libpython():
        return "flawed lacks " + LIBPYTHON + ", which Triton needs"
    return "usable " + version + " " + os.path.realpath(sys._base_executable)

print(answer())
'

# The folders where pyenv may keep its Pythons: HOME and PYENV_ROOT can be wrong or unset, so
# the pyenv command and its shims on PATH are followed too.
pyenv_roots() {
  local found
  printf '%s\n' "${PYENV_ROOT:-}" "${HOME:-}/.pyenv"
  type -aP pyenv | while IFS= read -r found; do
    dirname -- "$(dirname -- "$(readlink -f -- "$found")")"
  done
  type -aP python3.10 python3 python | sed -n 's|/shims/[^/]*$||p'
}

pyenv_pythons() {
  local folder
  pyenv_roots | while IFS= read -r folder; do
    printf '%s\n' "$folder"/versions/3.10.*/bin/python
  done | sort -rV
}

uv_pythons() {
  local folder=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-${HOME:-}/.local/share}/uv/python}
  printf '%s\n' "$folder"/cpython-3.10.*-linux-x86_64-gnu/bin/python3.10 | sort -rV
  "${uv:-uv}" python find --system 3.10 2>/dev/null
}

# Run in a process of its own, where a place without a Python shall not end the search.
candidates() {
  set +e +o pipefail
  type -P -- "${PYTHON:-}"
  type -aP python3.10 python3 python
  printf '%s\n' "${CONDA_PREFIX:-}/bin/python"
  pyenv_pythons
  uv_pythons
}

# A Python is judged by running it: what a name on PATH leads to may be dead (a pyenv shim),
# broken, or a Python of another version. Sets python and python_version if one is usable; keeps
# the others, which may have the pip that gets uv, and why the first Python 3.10 was passed over.
find_python() {
  local candidate kind rest
  while IFS= read -r candidate; do
    [ -x "$candidate" ] || continue
    read -r kind rest < <("$candidate" -I -c "$probe" 2>/dev/null </dev/null) || continue
    case $kind in
      usable)
        python_version=${rest%% *} python=${rest#* }
        pythons=("$python" "${pythons[@]}")
        return 0
        ;;
      flawed) flaw=${flaw:-$candidate $rest} ;;
      other) others[$rest]=1 pythons+=("$candidate") ;;
    esac
  done < <(candidates)
  return 1
}

found_pythons() {
  local versions="${!others[*]}"
  if [ -n "$flaw" ]; then
    printf '%s\n' "$flaw"
  elif [ -n "$versions" ]; then
    printf 'found only Python %s\n' "${versions// /, }"
  else
    printf 'there is no Python at all\n'
  fi
}

# uv may have the Python from an earlier run, which it then finds again without a network.
download_python() {
  reason='KIT_INSTALLER is pip'
  [ "${KIT_INSTALLER:-uv}" = uv ] || return 1
  mkdir -p -- "$venv"
  get_uv || return 1
  say 'No usable Python 3.10 on this machine: getting one with uv ...'
  # Without this uv would also put a link into ~/.local/bin.
  export UV_PYTHON_INSTALL_BIN=0
  reason='uv could not download it'
  run_uv python install 3.10 || return 1
  reason='the downloaded one is not usable'
  find_python
}

choose_python() {
  local last_words=''
  find_python || download_python || {
    [ ! -s "$log" ] || last_words="; the last words were: $(tail -n 1 -- "$log" | sed 's/^ *//')"
    rm -rf -- "$bootstrap" "$log"
    rmdir -- "$venv" 2>/dev/null || true
    fail "No usable Python 3.10 ($(found_pythons)) and none could be downloaded ($reason):" \
      'install CPython 3.10 with its shared library and venv (Ubuntu 22.04: apt install' \
      'python3.10-venv libpython3.10; elsewhere: conda, pyenv or uv), or name one with' \
      "PYTHON=/path/to/python3.10$last_words."
  }
  say "Python $python_version found at $python"
}

# --- uv and pip -------------------------------------------------------------------------------

# On a terminal an installer shows its own progress; elsewhere all it says goes to the log. pip
# tells progress and errors apart by stream, and its errors can be pages of traceback.
run_uv() {
  if [ -t 2 ]; then "$uv" "$@"; else "$uv" "$@" >>"$log" 2>&1; fi
}

run_pip() {
  if [ -t 1 ]; then "${pip[@]}" "$@" 2>>"$log"; else "${pip[@]}" "$@" >>"$log" 2>&1; fi
}

# The entry of one package in a lock: its first line to the last that does not go on.
print_entry() {
  sed -n "/^$1==/,/[^\\\\]\$/p" "$2"
}

drop_entry() {
  sed "/^$1==/,/[^\\\\]\$/d" "$2"
}

# Sets pip to a pip that runs: of this Python, or of a venv made for the purpose.
find_pip_of() {
  pip=("$1" -m pip)
  "${pip[@]}" --version >/dev/null 2>&1 && return
  pip=("$bootstrap/venv/bin/python" -m pip)
  rm -rf -- "$bootstrap/venv"
  "$1" -m venv "$bootstrap/venv" >/dev/null 2>&1
}

# Gets uv or pip, at the version and hash of the lock, with any pip that any Python here has.
bootstrap_tool() {
  local tool=$1 candidate
  mkdir -p -- "$bootstrap"
  print_entry "$tool" "$lock" >"$bootstrap/$tool.txt"
  reason="there is no pip to get $tool with"
  for candidate in "${pythons[@]}"; do
    find_pip_of "$candidate" || continue
    say "Getting $tool with the pip of $candidate ..."
    "${pip[@]}" install --quiet --retries 2 --require-hashes --no-deps --only-binary :all: \
      --target "$bootstrap/$tool" --requirement "$bootstrap/$tool.txt" >>"$log" 2>&1 && return
    reason="$tool could not be downloaded"
  done
  return 1
}

find_uv() {
  local candidate
  for candidate in "$(type -P uv || true)" "$venv/bin/uv" "$bootstrap/uv/bin/uv"; do
    if [ -x "$candidate" ] && "$candidate" pip sync --help >/dev/null 2>&1; then
      uv=$candidate
      return 0
    fi
  done
  return 1
}

get_uv() {
  find_uv || { bootstrap_tool uv && find_uv; }
}

choose_installer() {
  installer=${KIT_INSTALLER:-uv}
  if [ "$installer" = uv ]; then
    get_uv && return
    [ -z "${KIT_INSTALLER:-}" ] || fail_installation "uv cannot be had ($reason)"
    installer=pip
  fi
  bootstrap_tool pip || fail_installation "no installer can be had ($reason)"
  # The bootstrapped pip, run by the Python it shall install for.
  pip=("$venv/bin/python" "$bootstrap/pip/pip")
}

# A company's proxy may sign with a certificate that only the system's store knows; where there
# is no such store, uv keeps to the certificates it carries.
trust_system_certificates() {
  local store
  for store in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
    if [ -s "$store" ]; then
      export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_NATIVE_TLS=${UV_NATIVE_TLS:-true}
    fi
  done
}

# uv unpacks every wheel in its cache. On a small file system that would end in "no space left".
mind_small_cache() {
  local cache
  cache=$("$uv" cache dir 2>/dev/null) || return 0
  can_hold "$cache" "$uv_cache_gb" && return
  say "uv's cache $cache has only $room GB of room: it is left aside this time."
  export UV_CACHE_DIR=$scratch/uv-cache
}

# --- Installation -----------------------------------------------------------------------------

fail_installation() {
  local hint="the log is $log"
  if [ -s "$log" ]; then
    sed '/^WARNING/d' "$log" | tail -n 4 >&2
  else
    hint='its own message is above'
  fi
  fail "The environment could not be installed: $1; $hint. Most often the network cannot be" \
    'reached or a disk is full: put that right and run the same command again; what was' \
    'downloaded is kept.'
}

remake_venv() {
  mkdir -p -- "$venv"
  find "$venv/" -mindepth 1 -maxdepth 1 ! -name .bootstrap -exec rm -rf -- {} +
  "$python" -m venv --without-pip "$venv" || fail "$python could not make a venv in $venv."
}

opencv_can_be_full() {
  "$venv/bin/python" -I -c '
import ctypes
for library in "libGL.so.1", "libgthread-2.0.so.0":
    ctypes.CDLL(library)
' 2>/dev/null
}

choose_opencv() {
  opencv=${KIT_OPENCV:-full}
  if [ "$lock" = requirements.txt ]; then
    opencv=headless # which is in it already
    return
  fi
  if [ -z "${KIT_OPENCV:-}" ] && ! opencv_can_be_full; then
    opencv=headless
    say 'libGL.so.1 or libgthread-2.0.so.0 is not here: opencv-python-headless takes the place' \
      'of opencv-python (cv2 is the same but for its windows, which the kit does not use).'
  fi
}

write_requirements() {
  if [ "$opencv" = headless ] && [ "$lock" = environment.lock ]; then
    {
      drop_entry opencv-python environment.lock
      cat environment-headless.lock
    } >"$requirements"
  else
    cat "$lock" >"$requirements"
  fi
}

install_with_uv() {
  mind_small_cache
  run_uv pip sync --python "$venv/bin/python" --require-hashes --only-binary :all: \
    "$requirements" || return
  [ "$lock" = requirements.txt ] ||
    run_uv pip install --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
}

# --ignore-installed: or pip would take the bootstrapped pip for one that is in .venv.
install_with_pip() {
  # The cache holds the wheels a second time, as a rule on the same disk.
  can_hold "$venv" "$venv_and_pip_cache_gb" || export PIP_NO_CACHE_DIR=1
  run_pip install --require-hashes --no-deps --only-binary :all: --ignore-installed --no-compile \
    --requirement "$requirements" || return
  [ "$lock" = requirements.txt ] ||
    run_pip install --no-deps --no-build-isolation --editable .
}

install_packages() {
  local count
  choose_opencv
  write_requirements
  count=$(grep -c '^[a-z0-9].*==' "$requirements")
  say "Installing $count packages, about 5 GB, with $installer ..."
  rm -f -- "$log"
  # pip keeps every wheel there until the last is downloaded, and /tmp may be small.
  mkdir -p -- "$scratch"
  export TMPDIR=$scratch
  "install_with_$installer" || fail_installation "$installer failed"
  unset TMPDIR
  rm -rf -- "$scratch" "$bootstrap" "$requirements"
}

# A whole .venv of an older list is brought up to date by uv, which also removes what is no
# longer listed; pip does not, so with pip it is made anew, as after an interruption or a move.
prepare_venv() {
  rm -f -- "$log"
  if venv_is_whole && [ "${KIT_INSTALLER:-uv}" = uv ] && find_uv; then
    say 'Bringing .venv up to date ...'
    rm -f -- "$stamp"
    return
  fi
  [ ! -e "$venv/bin" ] || say 'Making .venv anew: it is unfinished, out of date or moved.'
  choose_python
  remake_venv
}

main() {
  inputs=$(hash_of_inputs)
  is_current && return
  check_options
  check_machine
  check_c_library
  check_lock
  check_space
  wait_for_other_set_up
  inputs=$(hash_of_inputs)
  is_current && return
  trap 'say "Interrupted: the next run begins again with what was downloaded."; exit 130' INT TERM
  SECONDS=0
  python='' python_version='' flaw='' reason='' uv='' pythons=()
  declare -A others=()
  trust_system_certificates
  prepare_venv
  choose_installer
  install_packages
  write_stamp
  say "The environment in .venv is ready after $SECONDS s."
}

main
