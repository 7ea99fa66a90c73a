# Shared by the engine scripts: where their things lie, the root file system that all containers
# use, and the main switch over the subcommands. Each script sets `engine` and defines the functions
# that are called here; what it does not define it cannot do (status 77).
#
#   packages install check up down version            of the engine
#   run id init qualified top exec pause unpause rm   of one container, NAME first
#   daemons as_user                                   what the tests stop, and whose containers they are
# shellcheck shell=bash disable=SC2034
set -euo pipefail

# Sockets and state; short, since socket paths are.
run_dir=${CINSPECT_TEST_DIR:-/run/cinspect-test}
# Layers and root file systems, which want a real file system below them.
data_dir=${CINSPECT_TEST_DATA:-/var/tmp/cinspect-test}
cache_dir=${CINSPECT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cinspect-test}
rootfs=$data_dir/rootfs

die() { echo "${engine:-engine}: $*" >&2; exit 1; }
cannot() { echo "${engine:-engine}: $*" >&2; exit 77; }

# A root file system of busybox alone, made once for all engines.
make_rootfs() {
  [ -e "$rootfs/.made" ] && return
  local new
  mkdir -p "$data_dir"
  new=$(mktemp -d "$data_dir/rootfs.XXXXXX")
  mkdir -p "$new"/{bin,sbin,usr/bin,usr/lib,etc,proc,sys,dev,tmp,run,root,var/log}
  cp /bin/busybox "$new/bin/busybox"
  "$new/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$new/bin/$applet"
  done
  ln -s ../../bin/sh "$new/usr/bin/sh"
  ln -s ../bin/sleep "$new/sbin/init"
  printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n' > "$new/etc/passwd"
  printf 'root:x:0:\nweb:x:1000:\n' > "$new/etc/group"
  printf 'ID=busybox\nNAME=busybox\nVERSION_ID=1\n' > "$new/etc/os-release"
  : > "$new/etc/resolv.conf"
  chmod 755 "$new"
  touch "$new/.made"
  # Another script may have been faster.
  mv -T "$new" "$rootfs" 2>/dev/null || rm -rf "$new"
}

# A bundle for the OCI runtimes: bundle NAME PIDNS CMD... ; PIDNS is empty for a new namespace,
# `host` for none, else the path of one to join. Limits are left as they are: raising them takes
# CAP_SYS_RESOURCE, which root does not have everywhere.
bundle() {
  local name=$1 pidns=$2 dir=$data_dir/$engine/$1
  shift 2
  make_rootfs
  rm -rf "$dir"; mkdir -p "$dir/rootfs"
  cp -a "$rootfs/." "$dir/rootfs/"
  (cd "$dir" && runc spec)
  jq --arg pidns "$pidns" '
      .process.terminal = false | .process.args = $ARGS.positional | .root.readonly = false
      | del(.process.rlimits)
      # Not every runtime can mount these for a container that joins a PID namespace.
      | .mounts |= map(select(.type != "cgroup"))
      | .process.capabilities |= with_entries(.value += ["CAP_SETUID", "CAP_SETGID"])
      | .hostname = "cit"
      | if $pidns == "host" then .linux.namespaces |= map(select(.type != "pid"))
        elif $pidns != "" then .linux.namespaces |= map(if .type == "pid" then .path = $pidns else . end)
        else . end' \
    --args -- "$@" < "$dir/config.json" > "$dir/config.new"
  mv "$dir/config.new" "$dir/config.json"
  echo "$dir"
}

# The PID namespace an option of `run` asks for, as `bundle` wants it.
pidns_of() {
  case $1 in
    '') ;;
    host) echo host ;;
    container:*) echo "/proc/$(init "${1#container:}")/ns/pid" ;;
    *) die "--pid=$1 is not known" ;;
  esac
}

# Waits until a command succeeds, at most so many tenths of a second.
wait_for() {
  local tenths=$1; shift
  while ! "$@" > /dev/null 2>&1; do
    tenths=$((tenths - 1))
    [ "$tenths" -gt 0 ] || return 1
    sleep 0.1
  done
}

# Processes of a PID namespace as the kernel tells: HOST-PID INSIDE-PID each. For engines that have
# no listing of their own.
top_by_namespace() {
  local ns pid
  ns=$(readlink "/proc/$1/ns/pid")
  for pid in /proc/[0-9]*; do
    if [ "$(readlink "$pid/ns/pid" 2> /dev/null)" = "$ns" ]; then
      echo "${pid#/proc/} $(sed -n 's/^NSpid:.*\t//p' "$pid/status" 2> /dev/null)"
    fi
  done
}

# The last process of an argv: starts it apart from us, with its output in a log.
apart() {
  local log=$1; shift
  setsid "$@" < /dev/null > "$log" 2>&1 &
  echo $!
}

# A daemon that we started: its PID from a file, if it still runs that program.
running() {
  local pid
  pid=$(cat "$1" 2> /dev/null) || return 1
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "$2" ] && echo "$pid"
}

# Ends a daemon: TERM, then KILL.
end() {
  local pid
  pid=$(running "$1" "$2") || return 0
  kill -CONT "$pid"; kill "$pid" 2> /dev/null || true
  wait_for 100 test ! -d "/proc/$pid" || kill -KILL "$pid" || true
}

# Removes a folder of ours with whatever is still mounted in it.
clear_dir() {
  local at
  awk -v top="$1" 'index($5, top "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r |
    while read -r at; do umount -l "$at" 2> /dev/null || true; done
  rm -rf "$1"
}

packages() { echo; }
install() { :; }
daemons() { :; }
as_user() { :; }
pause() { cannot "cannot pause"; }
unpause() { cannot "cannot unpause"; }

needs_root() { [ "$(id -u)" = 0 ] || { echo "needs root"; return 1; }; }
needs() {
  local program
  for program in "$@"; do
    command -v "$program" > /dev/null || { echo "no $program here"; return 1; }
  done
}

# run NAME [--pid=X] -- CMD...  →  start NAME X CMD...
run() {
  local name=$1 pid=''
  shift
  case ${1:-} in --pid=*) pid=${1#--pid=}; shift ;; esac
  [ "${1:-}" = -- ] && shift
  start "$name" "$pid" "$@"
}

main() {
  local sub=${1:?which subcommand}
  shift
  sub=${sub//-/_}
  case $sub in
    exec) local name=$1; shift; [ "${1:-}" = -- ] && shift; enter "$name" "$@" ;;
    packages | install | check | up | down | version | run | id | init | qualified | top | pause | unpause | rm | daemons | as_user)
      "do_$sub" "$@" ;;
    *) die "no subcommand $sub" ;;
  esac
}

# `id` and `rm` are programs too, so each subcommand has a name of its own here.
do_packages() { packages; }
do_install() { install; }
do_check() { check; }
do_up() { down; make_rootfs; up; }
do_down() { down; }
do_version() { version; }
do_run() { run "$@"; }
do_id() { full_id "$@"; }
do_init() { init "$@"; }
do_qualified() { qualified "$@"; }
do_top() { top "$@"; }
do_pause() { pause "$@"; }
do_unpause() { unpause "$@"; }
do_rm() { remove "$@"; }
do_daemons() { daemons; }
do_as_user() { as_user; }
