#!/bin/bash
# A sandbox inside of a container has a PID 1 of its own; `pid:N` of it must not mean the container.
. "${0%/*}/lib.sh"
cgroup /web
# shellcheck disable=SC2016
start /web unshare -pf sh -c 'trap : TERM; unshare -pf sh -c "sleep 987; true" & sleep 986; wait'
init=$(child "$started")
record web "$init" /web
outer=$(child "$init")
inner=$(child "$outer")
expect 0 ls -q --engine bare
says "pid:$inner"
expect 0 signal "pid:$inner" KILL
ended "$inner"
lives "$init"
