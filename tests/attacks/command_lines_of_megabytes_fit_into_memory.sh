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
sleep 5
init=$(child "$started")
record web "$init" /web
(
    ulimit -v 200000
    export MALLOC_ARENA_MAX=1
    expect 0 --json ps web
    says '"host_pid"'
    expect 0 ps web
    says kill
)
