# Shared by the engine scripts: paths, the root file system of all containers, and the dispatch of
# subcommands. Each script sets `engine` and defines the functions that are called here; a function that
# it does not define is not supported (status 77).
#
#   packages install check up down version            of the engine
#   run id init root qualified top exec pause unpause rm   of one container, NAME first
#   create                                            the same, without starting it
#   boot                                              the same, with systemd as the init (tests/vm)
#   stop kill ending                                  how it ends: by the engine's own stop and kill, and as JSON
#   daemons as_user                                   daemons that the tests stop, and the user of the containers
#   lacks                                             checks that do not apply to the engine: NAME: REASON, where
#                                                     `*` stands for all those that every engine has
# shellcheck shell=bash disable=SC2034
set -euo pipefail

# Sockets and state; short, since the length of socket paths is limited.
run_dir=${CINSPECT_TEST_DIR:-/run/cinspect-test}
# Layers and root file systems, which need a disk file system.
data_dir=${CINSPECT_TEST_DATA:-/var/tmp/cinspect-test}
cache_dir=${CINSPECT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cinspect-test}
rootfs=$data_dir/rootfs
# Options of a test for the engine's own `run`.
read -ra options <<< "${CIT_OPTIONS:-}"

die() { echo "${engine:-engine}: $*" >&2; exit 1; }
cannot() { echo "${engine:-engine}: $*" >&2; exit 77; }

# Makes a root file system with only busybox, once for all engines.
make_rootfs() {
  [ -e "$rootfs/.made" ] && return
  local new
  mkdir -p "$data_dir"
  new=$(mktemp -d "$data_dir/rootfs.XXXXXX")
  mkdir -p "$new"/{bin,sbin,usr/bin,usr/lib,etc,proc,sys,dev,tmp,run,root,var/log}
  cp /bin/busybox "$new/bin/busybox"
  chroot "$new" /bin/busybox --install -s /bin
  ln -s ../../bin/sh "$new/usr/bin/sh"
  ln -s ../bin/sleep "$new/sbin/init"
  printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n' > "$new/etc/passwd"
  printf 'root:x:0:\nweb:x:1000:\n' > "$new/etc/group"
  printf 'ID=busybox\nNAME=busybox\nVERSION_ID=1\n' > "$new/etc/os-release"
  : > "$new/etc/resolv.conf"
  chmod 755 "$new"
  touch "$new/.made"
  # Another script may have made it first.
  mv -T "$new" "$rootfs" 2>/dev/null || rm -rf "$new"
}

# Makes a bundle for an OCI runtime from the arguments of `start`: NAME PID CMD... Limits are not set:
# raising them needs CAP_SYS_RESOURCE, which root does not have everywhere.
bundle() {
  local dir=$data_dir/$engine/$1 pidns
  pidns=$(pidns_of "$2") || exit
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

# Prints the PID namespace for --pid of `run`: nothing for a new one, `host`, or the path of one.
pidns_of() {
  case $1 in
    '') ;;
    host) echo host ;;
    container:*) local pid; pid=$(do_init "${1#container:}") && echo "/proc/$pid/ns/pid" ;;
    *) die "unknown --pid=$1" ;;
  esac
}

# Waits until a command succeeds, at most so many seconds: a loaded machine takes its
# time (a slow one, its factor).
wait_for() {
  local tenths=$(($1 * 10 * ${CINSPECT_TEST_PATIENCE:-1})); shift
  while ! "$@" > /dev/null 2>&1; do
    tenths=$((tenths - 1))
    [ "$tenths" -gt 0 ] || return 1
    sleep 0.1
  done
}

# Lists the processes of a container's PID namespace from /proc, HOST-PID PID each, for engines without a
# listing of their own.
top_by_namespace() {
  local ns pid; pid=$(do_init "$1")
  ns=$(readlink "/proc/$pid/ns/pid")
  for pid in /proc/[0-9]*; do
    if [ "$(readlink "$pid/ns/pid" 2> /dev/null)" = "$ns" ]; then
      echo "${pid#/proc/} $(nspid "${pid#/proc/}")"
    fi
  done
}

# The same for a container by podman top: NAME PODMAN... It fails when a process exits while it is read.
top_of_podman() {
  local name=$1 rows; shift
  for _ in {1..20}; do
    ! rows=$("$@" top "$name" hpid pid) || break
  done
  [ -n "$rows" ] || die "podman top failed 20 times"
  sed 1d <<< "$rows" | awk '{ print ($1 == "?") ? "-" : $1, $2 }'
}

# Prints the PID of a process in its own PID namespace.
nspid() { sed -n 's/^NSpid:.*\t//p' "/proc/$1/status" 2> /dev/null; }

# Starts a command in a session of its own, with its output in a log, and prints its PID. Background
# processes of a shell ignore INT and QUIT, and containers would inherit that.
detached() {
  local log=$1; shift
  setsid env --default-signal "$@" < /dev/null > "$log" 2>&1 &
  echo $!
}

# Whether a process has executed a program of the root file system, instead of the engine's own.
in_busybox() { [[ $(readlink "/proc/$1/exe" 2> /dev/null) == */busybox ]]; }

# exec for a client that stays in the foreground: returns when CMD runs, or has exited.
enter_with() {
  local log=$run_dir/$engine/exec.log pid
  mkdir -p "$run_dir/$engine"
  pid=$(detached "$log" "$@")
  wait_for 100 entered "$pid" || die "exec did not start: $(cat "$log")"
  [ -d "/proc/$pid" ] || [ ! -s "$log" ] || die "exec: $(cat "$log")"
}
entered() {
  local child
  for child in $(pgrep -P "$1"); do in_busybox "$child" && return; done
  [ ! -d "/proc/$1" ]
}

# Prints the PID of a daemon from its PID file, if it still runs that program.
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
  wait_for 30 ended "$pid" || kill -KILL "$pid" || true
}
# Not every host has an init that reaps; a zombie has no command line.
ended() { [ -z "$(tr -d '\0' < "/proc/$1/cmdline")" ]; }

# Lists processes whose root file system is below the directory of an engine. It reads mountinfo, so it
# also finds processes that a crashed engine no longer knows.
rooted_in() {
  local below="/${data_dir##*/}/$1/"
  # A bind mount has the directory in its fourth field, an overlay in its options.
  grep -lsE "^[^ ]+ [^ ]+ [^ ]+ ([^ ]*${below}[^ ]* / |[^ ]+ / .*$below)" /proc/[0-9]*/mountinfo |
    cut -d / -f 3
}

# Lists an engine's daemons, shims and monitors: they have a test directory in their argv.
monitors() {
  local pid
  grep -lszE "(^|[ /=])($run_dir|$data_dir)/$engine(/| |\$)" /proc/[0-9]*/cmdline | cut -d / -f 3 |
    while read -r pid; do
      # Other programs, such as an editor, may have it, too.
      case $(cat "/proc/$pid/comm" 2> /dev/null) in
        dockerd | containerd* | conmon | podman* | runc* | crun | youki* | lxc-* | systemd-nspawn | bwrap | nsenter)
          echo "$pid" ;;
      esac
    done
}

leftovers() { monitors || true; rooted_in "$engine" || true; }
nothing_left() { [ -z "$(leftovers)" ]; }

# Removes everything that is left of an engine after its own `down`, or after a crash.
sweep() {
  local group pid
  for _ in 1 2 3; do
    leftovers | while read -r pid; do kill_even_paused "$pid"; done
    wait_for 10 nothing_left && break
  done
  nothing_left || echo "$engine: still there: $(leftovers | tr '\n' ' ')" >&2
  cgroups | while read -r group; do clear_cgroup "$group"; done
  traces || true
  clear_dir "$run_dir/$engine"
  clear_dir "$data_dir/$engine"
}

# In a frozen v1 cgroup the signal stays pending.
kill_even_paused() {
  local group
  group=$(sed -n 's/^[0-9]*:freezer://p' "/proc/$1/cgroup" 2> /dev/null) || return 0
  kill -KILL "$1" 2> /dev/null || true
  case $group in /?*) echo THAWED > "/sys/fs/cgroup/freezer$group/freezer.state" ;; esac 2> /dev/null || true
}

# Removes a cgroup and its descendants in every hierarchy, except those with processes.
clear_cgroup() {
  local dir
  for dir in "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1"; do
    [ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2> /dev/null || true
  done
}

# Lists the cgroups that match a pattern at the top of any hierarchy.
own_cgroups() {
  local dir
  # shellcheck disable=SC2231
  for dir in /sys/fs/cgroup/$1 /sys/fs/cgroup/*/$1; do # $1 is a pattern
    [ ! -d "$dir" ] || echo "${dir##*/}"
  done | sort -u
}

# Removes directories that runtimes make elsewhere, if empty: other users may have files in them.
clear_empty() { rmdir --ignore-fail-on-non-empty "$@" 2> /dev/null || true; }

# Removes the sockets of killed shims from the directory that all shims share.
clear_shim_sockets() {
  local file
  for file in "$1"/io.containerd.runtime.v2.task/*/*/address; do
    [ ! -e "$file" ] || (socket=$(cat "$file") && rm -f "${socket#unix://}")
  done
}

# Removes a directory, and unmounts everything in it and on it.
clear_dir() {
  local mounted
  awk -v top="$1" '$5 == top || index($5, top "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r |
    while read -r mounted; do umount -l "$mounted" 2> /dev/null || true; done
  rm -rf "$1"
}

# Removes the shared files with the last engine.
clear_shared() {
  rmdir "$run_dir" 2> /dev/null || true
  [ "$(ls -A "$data_dir" 2> /dev/null)" != rootfs ] || rm -rf "$rootfs" 2> /dev/null || true
  rmdir "$data_dir" 2> /dev/null || true
}

# Optional functions of an engine: the cgroups and other files that it leaves behind.
cgroups() { :; }
traces() { :; }

packages() { echo; }
install() { :; }
up() { :; }
down() { :; }
daemons() { :; }
as_user() { :; }
lacks() { :; }
root() { local pid; pid=$(do_init "$1") && echo "/proc/$pid/root"; }
client() { cannot "has no client"; }
create() { cannot "cannot create a container without starting it"; }
stop() { cannot "cannot stop"; }
kill_by_engine() { cannot "cannot kill"; }
ending() { cannot "does not tell how a container ended"; }
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
  # After an OOM kill conmon leaves a file named `oom` in its working directory.
  cd "$run_dir/$engine"
  start "$name" "$pid" "$@"
  # The engine may return before the init has executed the command.
  wait_for 100 runs "$name" || die "$name does not run its command"
}
runs() {
  local pid
  pid=$(init "$1")
  # With test options the init may be another program than busybox, but not the runtime.
  if [ -z "${CIT_OPTIONS:-}" ]; then in_busybox "$pid"; else [ "$pid" -gt 0 ] && ! grep -qE '^(runc|crun)' "/proc/$pid/comm"; fi
}

main() {
  local sub=${1:?which subcommand}
  shift
  sub=${sub//-/_}
  case $sub in
    packages | install | check | up | down | version | as_user | lacks) ;;
    *) [ -d "$run_dir/$engine" ] || die "is not up" ;;
  esac
  case $sub in
    exec) local name=$1; shift; [ "${1:-}" = -- ] && shift; enter "$name" "$@" ;;
    packages | install | check | up | down | version | run | create | boot | id | init | root | qualified | top | pause | unpause | policy | stop | kill | ending | rm | daemons | as_user | lacks | client)
      "do_$sub" "$@" ;;
    *) die "no subcommand $sub" ;;
  esac
}

# `id` and `rm` are programs too, so the functions of subcommands are prefixed with do_.
do_packages() { echo "busybox-static $(packages)"; }
do_install() { install; }
do_check() { needs /bin/busybox && check; }
do_up() { (down) || true; sweep; make_rootfs; mkdir -p "$run_dir/$engine" "$data_dir/$engine"; up; }
do_down() { (down) || true; sweep; clear_shared; }
do_version() { version; }
do_run() { run "$@"; }
do_create() { local name=$1; shift; [ "${1:-}" = -- ] && shift; create "$name" "$@"; }
# Prints the command line of the engine's own client, for benchmarks.
do_client() { client; }
do_id() { full_id "$@"; }
do_init() {
  local pid
  pid=$(init "$1" 2> /dev/null) || pid=
  [[ $pid =~ ^[1-9][0-9]*$ ]] || die "no container $1 runs"
  echo "$pid"
}
# Prints where the container's root directory is on the host.
do_root() { root "$@"; }
do_qualified() { qualified "$@"; }
do_top() { top "$@"; }
do_pause() { pause "$@"; }
do_unpause() { unpause "$@"; }
do_stop() { stop "$@"; }
do_kill() { kill_by_engine "$@"; }
do_ending() { ending "$@"; }
do_policy() { policy "$@"; }
do_rm() { remove "$@"; }
do_daemons() { daemons; }
do_as_user() { as_user; }
do_lacks() {
  lacks
  declare -F boot > /dev/null || echo "machine_that_boots_systemd_is_stopped: no root with systemd here (tests/vm has)"
}
# Starts a machine that boots systemd, NAME, in the virtual machines of tests/vm.
do_boot() {
  boot "$1"
  wait_for 300 booted "$1" || die "$1 does not boot"
}
booted() {
  local pid; pid=$(do_init "$1") || return
  [[ $(nsenter -t "$pid" -a systemctl is-system-running 2> /dev/null) =~ ^(running|degraded)$ ]]
}
