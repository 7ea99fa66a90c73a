#!/bin/bash
# Forty processes with as many arguments as the kernel takes.
. "${0%/*}/lib.sh"
cgroup /web
ulimit -Ss "$(ulimit -Hs)"
# shellcheck disable=SC2016
start /web unshare -pf --mount-proc bash -c '
    for process in $(seq 40); do
        setsid sh -c "kill -STOP \$\$" $(yes a | head -150000) &
    done
    sleep 966'
init=$(child "$started")
stopped() {
    local pid count=0
    while read -r pid; do
        grep -q '^State:.T' "/proc/$pid/status" && count=$((count + 1))
    done <"$hierarchy$top/web/cgroup.procs"
    [ $count -ge 40 ]
}
until stopped; do sleep 0.2; done
record web "$init" /web
(
    ulimit -v 200000
    export MALLOC_ARENA_MAX=1
    expect 0 --json ps web
    prints '"host_pid"'
    expect 0 ps web
    prints kill
)
