#!/usr/bin/env bash
# Starts or ends a Docker engine of its own: data, state, socket, log and bridge are its own, so an
# engine of the machine is left alone. What it has built stays in its folder for the next start.
#
# Usage: .ci/engine.sh start|stop FOLDER     as root; Debian: docker.io containerd runc iptables iproute2
#        export DOCKER_HOST=unix://FOLDER/docker.sock
set -euo pipefail

verb=$1 folder=$2
socket=$folder/docker.sock pid_file=$folder/docker.pid
# A bridge's name has 15 characters at most; of each folder it is another, and so are its addresses.
number=$(($(cksum <<<"$folder" | cut -d ' ' -f 1) % 200 + 20))
bridge=kit-engine-$number

responds() {
  docker --host "unix://$socket" version >/dev/null 2>&1
}

start() {
  mkdir -p -- "$folder"
  ! responds || return 0
  rm -f -- "$pid_file"
  [ -e "/sys/class/net/$bridge" ] || ip link add "$bridge" type bridge
  ip address replace "10.$number.0.1/16" dev "$bridge"
  ip link set "$bridge" up
  echo '{}' >"$folder/daemon.json" # not the machine's own, in /etc/docker
  setsid dockerd --config-file "$folder/daemon.json" --data-root "$folder/data" \
    --exec-root "$folder/exec" --pidfile "$pid_file" --host "unix://$socket" --bridge "$bridge" \
    --log-level warn >"$folder/dockerd.log" 2>&1 </dev/null &
  for _ in {1..150}; do
    ! responds || return 0
    sleep 0.2
  done
  tail -n 20 -- "$folder/dockerd.log" >&2
  stop
  echo 'engine: dockerd did not respond within 30 s; the end of its log is above.' >&2
  exit 1
}

# dockerd ends its containers, and with them their mounts.
stop() {
  local pid
  if pid=$(cat -- "$pid_file" 2>/dev/null) && kill "$pid" 2>/dev/null; then
    for _ in {1..150}; do
      [ -d "/proc/$pid" ] || break
      sleep 0.2
    done
    kill -KILL "$pid" 2>/dev/null || true
  fi
  awk -v folder="$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r |
    xargs --no-run-if-empty umount
  ip link delete "$bridge" 2>/dev/null || true
}

"$verb"
