#!/bin/bash
# From another cgroup namespace, the cgroups of containers are outside the mounted root (`/../…`).
. "${0%/*}/lib.sh"
id=$(long_id ce)
cgroup "/$id"
cgroup /caller
start "/$id" unshare -pf --mount-proc sleep 977
init=$(child "$started")
record "$id" "$init" "/$id"
enter /caller $$
# shellcheck disable=SC2016
unshare -C sh -euc '
    grep -q "/\.\./" "/proc/$1/cgroup"
    "$CINSPECT" ls "$2" | grep -q runc
    "$CINSPECT" ps "$2" | grep -q "sleep 977"
    "$CINSPECT" signal "$2" 0 | grep -q sent
' sh "$init" "$id" || fail "the container is not fully visible"
for dir in $hierarchies; do echo $$ >"$dir/cgroup.procs"; done
