#!/bin/bash
# A sandbox in a container has its own PID 1; `pid:N` of that process must not mean the container.
. "${0%/*}/lib.sh"
cgroup /web
# shellcheck disable=SC2016
start /web unshare -pf sh -c 'trap : TERM; unshare -pf sh -c "sleep 987; true" & sleep 986; wait'
init=$(child "$started")
record web "$init" /web
outer=$(child "$init")
inner=$(child "$outer")
expect 0 ls -q --engine bare
prints "pid:$inner"
expect 0 signal "pid:$inner" KILL
wait_exited "$inner"
unharmed "$init"
