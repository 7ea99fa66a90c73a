#!/usr/bin/env bash
# A container without a PID namespace of its own hides a process in a cgroup that is nested deeper than any search,
# or whose path is longer than the kernel shows: it was left out by ps and signal, and a stop that left it to the
# engine was called clean.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# Removes nested cgroups; their paths may be too long for rmdir(1).
unnest() {
    find "$hierarchy$top/box" -mindepth 1 -depth -type d -execdir rmdir {} ';'
}

tries=0
for shape in 'd 100' "$(printf 'n%.0s' $(seq 250)) 30"; do
    read -r name levels <<<"$shape"
    tries=$((tries + 1))
    cgroup /box
    start /box bash -c 'trap "exit 0" TERM; sleep 3000 & while :; do wait; done'
    init=$started
    hidden=$(child "$init")
    record "box$tries" "$init" /box
    (nest "$hierarchy$top/box" "$name" "$levels" "$hidden")
    expect 0 ps "runc:box$tries"
    prints 'sleep 3000'
    expect 0 signal "runc:box$tries" 0 --all
    prints " $hidden "
    expect 0 stop --order all -t 60s "runc:box$tries"
    prints "$hidden sleep: terminates"
    exited "$hidden" || fail "process $hidden still runs"
    unnest
done
