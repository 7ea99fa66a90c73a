#!/bin/bash
# The caller has the same PID in its own PID namespace and in the outer one whose /proc is mounted.
. "${0%/*}/lib.sh"
cgroup /web
start /web unshare -pf --mount-proc sleep 965
init=$(child "$started")
status=0
# shellcheck disable=SC2016
unshare -pf bash -c '
    for try in $(seq 300); do
        # The next process gets the next PID outside, unless other processes start; the offset here
        # makes up for these.
        outside=$(bash -c "read -r outside _ </proc/self/stat; echo \$outside")
        echo $((outside + try % 6)) >/proc/sys/kernel/ns_last_pid
        for again in 1 2 3 4 5 6 7 8; do
            bash -c "read -r outside _ </proc/self/stat
                [ \$outside = \$\$ ] || exit 99
                exec \"$CINSPECT\" signal pid:$1 KILL"
            status=$?
            [ $status = 99 ] || exit $status
        done
    done
    exit 98' bash "$init" || status=$?
[ $status = 5 ] || fail "exit status $status (98: the PIDs never matched)"
unharmed "$init"
