#!/bin/bash
# A process that joined the PID namespace but not the cgroup, and one that is only in the cgroup.
. "${0%/*}/lib.sh"
cgroup /web
start /web unshare -pf sleep 982
init=$(child "$started")
record web "$init" /web
cgroup /shell
start /shell nsenter -t "$init" -p sh -c 'sleep 980; true'
start /web sleep 981
stray=$started
expect 0 --json ps web
shown=$(grep -c host_pid <<<"$out")
prints '"sleep","980"'
grep '"sleep","981"' <<<"$out" | grep -q '"pid":null' || fail "the stray process has a PID in the container: $out"
expect 0 --json ls web
prints "\"processes\":$shown"
expect 4 signal web KILL --host-pid "$stray"
expect 0 signal web KILL --all
wait_exited "$init"
unharmed "$stray"
