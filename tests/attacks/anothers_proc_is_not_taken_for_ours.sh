#!/bin/bash
# Our number in the /proc of an outer PID namespace is by chance the one we have ourselves.
. "${0%/*}/lib.sh"
cgroup /web
start /web unshare -pf --mount-proc sleep 965
init=$(child "$started")
status=0
# shellcheck disable=SC2016
unshare -pf bash -c '
    for try in $(seq 300); do
        # The next process gets one more outside, unless others start some: then it catches up with
        # what we are ahead here.
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
[ $status = 5 ] || fail "it left with $status (98: the numbers never met)"
lives "$init"
