#!/bin/bash
# Looked at from another cgroup namespace, containers lie outside of what is mounted there (`/../…`).
. "${0%/*}/lib.sh"
id=$(long_id ce)
cgroup "/$id"
cgroup /ours
start "/$id" unshare -pf --mount-proc sleep 977
init=$(child "$started")
record "$id" "$init" "/$id"
enter /ours $$
# shellcheck disable=SC2016
unshare -C sh -euc '
    grep -q "/\.\./" "/proc/$1/cgroup"
    "$CINSPECT" ls "$2" | grep -q runc
    "$CINSPECT" ps "$2" | grep -q "sleep 977"
    "$CINSPECT" signal "$2" 0 | grep -q sent
' sh "$init" "$id" || fail "it is not seen whole"
for dir in $hierarchies; do echo $$ >"$dir/cgroup.procs"; done
