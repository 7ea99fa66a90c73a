#!/usr/bin/env bash
# A container stacks 65,536 mounts on one directory with sixteen calls: the kernel takes most of a minute to list
# them, as each line takes time in proportion to the mounts below it.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cgroup /web
mkdir "$work/stack"
# shellcheck disable=SC2016
start /web unshare -pfm --mount-proc bash -c '
    mount -t tmpfs none "$1"
    cd "$1"
    for _ in $(seq 16); do mount --no-canonicalize --rbind . .; done
    exec sleep 3000' bash "$work/stack"
init=$(child "$started")
record web "$init" /web
expect 0 ps web
prints 'sleep 3000'
expect 0 exec web true
expect 0 inspect web
[[ $out =~ mounts\ +\? ]] || fail "the mounts are shown: $out"
expect 0 --json inspect web
prints '"mounts":null'
