#!/usr/bin/env bash
# A container without a PID namespace of its own outlives its init. Its processes are still its, and a stop
# that leaves some behind does not call itself done.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cgroup /c
start /c sh -c 'sleep 1001 & sleep 1002 & wait'
init=$started
record c "$init" /c
children() { cat "/proc/$init/task/$init/children"; }
has_both() { [ "$(children | wc -w)" = 2 ] && for other in $(children); do grep -q sleep "/proc/$other/comm" || return; done; }
wait_until has_both
others=$(children)
kill -KILL "$init"
wait_exited "$init"
expect 0 ls
prints 'init exited'
expect 0 ps runc:c
prints 'sleep 1001'
expect 0 inspect "${others%% *}"
prints runc:c
expect 8 doctor runc:c
prints "the main process (host PID $init) has exited"
expect 4 signal runc:c TERM
prints 'has no init'
for other in $others; do unharmed "$other"; done
expect 0 signal runc:c WINCH --all
expect 0 --json stop -t 60s runc:c
prints '"graceful":true'
for other in $others; do wait_exited "$other"; done

# The init starts another process at the signal and exits. Whether the stop sees it while the init runs or
# not, it is told.
cgroup /d
start /d sh -c 'trap "setsid sleep 1003 & exit 0" TERM; sleep 1004 & wait'
record d "$started" /d
has_trap() { grep -q '^SigCgt:.*[4-7c-f][0-9a-f]\{3\}$' "/proc/$started/status"; }
wait_until has_trap
status=0
out=$("$CINSPECT" stop --order init --no-kill -t 1s runc:d 2>&1) || status=$?
[ "$status" = 1 ] || [ "$status" = 124 ] || fail "exit status $status: $out"
prints 'not stopped: '
expect 0 ps runc:d
prints 'sleep 1003'
expect 0 stop -t 60s runc:d
expect 3 ps runc:d
