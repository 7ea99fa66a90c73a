#!/bin/bash
# Root in a container, without any capability, calls itself containerd and points to records in its
# own file system, which claim that a process of the host is a container.
. "${0%/*}/lib.sh"
cgroup /box
cgroup /victim
start /victim sleep 976
victim=$started
tasks=$work/evil/io.containerd.runtime.v2.task/default/db
mkdir -p "$tasks"
echo "{\"linux\":{\"cgroupsPath\":\"$top/victim\"}}" >"$tasks/config.json"
echo "$victim" >"$tasks/init.pid"
cp "$(readlink -f /bin/bash)" "$work/containerd"
for share in "-pf --mount-proc" "-m"; do
    # shellcheck disable=SC2086
    start /box unshare $share setpriv --bounding-set=-all --inh-caps=-all \
        "$work/containerd" -c 'sleep 975; true' --state "$work/evil"
    expect 0 --json ls
    lacks '"name":"db"'
    expect 3 signal db KILL --all
    unharmed "$victim"
done
