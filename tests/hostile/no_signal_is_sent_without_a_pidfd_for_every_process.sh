#!/bin/bash
# With too few descriptors to hold a pidfd of every process, no process is signalled.
. "${0%/*}/lib.sh"
cgroup /many
# shellcheck disable=SC2016
start /many unshare -pf --mount-proc sh -c 'trap : TERM; for i in $(seq 60); do sleep 979 & done; wait; sleep 978'
init=$(child "$started")
record many "$init" /many
before=$(cat "$hierarchy$top/many/cgroup.procs" | wc -l)
for limit in 20 30 40 60; do
    (
        ulimit -n $limit
        expect 1 signal many KILL --all --except-init
        prints "too many processes for the open file limit"
    )
done
for pid in $(cat "$hierarchy$top/many/cgroup.procs"); do wait_settled "$pid"; done
[ "$(cat "$hierarchy$top/many/cgroup.procs" | wc -l)" = "$before" ] || fail "some processes were killed"
expect 0 signal many KILL --all --except-init
