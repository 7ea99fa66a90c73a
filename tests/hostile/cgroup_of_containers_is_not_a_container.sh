#!/bin/bash
# A cgroup above two containers, with a process of its own, is not a container that can be signalled.
. "${0%/*}/lib.sh"
cgroup /pod
cgroup /pod/a
cgroup /pod/b
for name in a b; do
    start "/pod/$name" unshare -pf sleep 985
    record "$name" "$(child "$started")" "/pod/$name"
done
start /pod sleep 960
expect 3 signal "cgroup:$top/pod" KILL --all
prints "does not belong to exactly one container"
unharmed "$started"
expect 0 ps "cgroup:$top/pod"
prints "sleep 960"
