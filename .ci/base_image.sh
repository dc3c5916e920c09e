#!/usr/bin/env bash
# Makes a stand-in for the image python:3.10-slim-bookworm where that cannot be downloaded: Debian 12
# from its packages, and a CPython 3.10 of this machine with its shared library, in /usr/local.
#
# It also holds what this machine needs to reach a package index: its certificates, and the settings
# of pip, uv and a proxy in the environment. So it must not be published, nor what is built on it.
#
# Usage: .ci/base_image.sh PYTHON     as root, with an engine (DOCKER_HOST); Debian: debootstrap
set -euo pipefail

python=$1
name=python:3.10-slim-bookworm
mark=oneflow-serving-kit.stand-in
certificates=/etc/ssl/certs/ca-certificates.crt
packages=ca-certificates,netbase,tzdata,libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6
packages+=,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g

settings() {
  env | grep -iE '^((PIP|UV)_[A-Z_]*(INDEX|TIMEOUT|TRUSTED|INSECURE)[A-Z_]*|(https?|no)_proxy)=' || true
  printf '%s\n' UV_SYSTEM_CERTS=true "PIP_CERT=$certificates"
}

# Of what the stand-in is made: one of another origin is made anew.
origin() {
  { cat -- "${BASH_SOURCE[0]}"; settings; "$python" -c 'import sys; print(sys.version)'; } |
    sha256sum | cut -d ' ' -f 1
}

copy_python() {
  local binary library standard
  read -r binary library standard < <("$python" -c '
import os, sys, sysconfig
folder, name = sysconfig.get_config_vars("LIBDIR", "INSTSONAME")
program = os.path.join(sys.base_prefix, "bin", "python3.10")
print(os.path.realpath(program), os.path.join(folder, name), sysconfig.get_path("stdlib"))')
  install -D -- "$binary" "$root/usr/local/bin/python3.10"
  install -D -- "$library" "$root/usr/local/lib/$(basename -- "$library")"
  mkdir -p "$root/usr/local/lib/python3.10"
  tar -C "$standard" --exclude='./site-packages/*' --exclude=./test --exclude=__pycache__ \
    --exclude='./config-3.10*' -c . | tar -C "$root/usr/local/lib/python3.10" -x
  ln -s python3.10 "$root/usr/local/bin/python3"
  ln -s python3.10 "$root/usr/local/bin/python"
  chroot "$root" ldconfig
  PIP_ROOT_USER_ACTION=ignore chroot "$root" python3 -m ensurepip >/dev/null
}

[ "$(docker image inspect --format "{{index .Config.Labels \"$mark\"}}" "$name" 2>/dev/null)" != \
  "$(origin)" ] || exit 0
root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$root.log" || {
  tail -n 20 -- "$root.log" >&2
  exit 1
}
rm -rf -- "$root.log" "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
copy_python
cp -- "${SSL_CERT_FILE:-$certificates}" "$root$certificates"
changes=(--change 'CMD ["python3"]' --change "LABEL $mark=$(origin)"
  --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8')
while IFS= read -r setting; do
  changes+=(--change "ENV ${setting%%=*}=\"${setting#*=}\"")
done < <(settings)
tar -C "$root" -c . | docker import "${changes[@]}" - "$name" >/dev/null
