#!/usr/bin/env bash
# A process is frozen in a cgroup whose path the kernel cuts, refuses to show or does not open in one piece. Nothing
# says that: it was taken for running, a stop of it was forecast to be graceful, and its container ran.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# The hierarchy with a freezer; of two, one is enough.
for freezer in /sys/fs/cgroup/freezer /sys/fs/cgroup; do
    [ -d "$freezer" ] && break
done

# Makes nested cgroups, moves a process into the last and freezes that: NAME LEVELS PID.
freeze() (
    nest "$freezer$top/box" "$@"
    if [ -e freezer.state ]; then
        echo FROZEN >freezer.state
        until [ "$(cat freezer.state)" = FROZEN ]; do sleep 0.05; done
    else
        echo 1 >cgroup.freeze
        until grep -qx 'frozen 1' cgroup.events; do sleep 0.05; done
    fi
)

# Thaws everything and removes the nested cgroups; their paths may be too long for rmdir(1).
thaw() {
    find "$freezer$top/box" -mindepth 1 -depth -type d \
        \( -execdir sh -c 'echo THAWED >"$1/freezer.state" || echo 0 >"$1/cgroup.freeze"' sh {} ';' \) 2>/dev/null || :
}

name=$(printf 'n%.0s' $(seq 250))
tries=0
for levels in 3 16 30; do
    for frozen in child init; do
        tries=$((tries + 1))
        cgroup /box
        start /box bash -c 'trap "exit 0" TERM; sleep 3000 & while :; do wait; done'
        init=$started
        pid=$init
        [ "$frozen" = init ] || pid=$(child "$init")
        record "box$tries" "$init" /box
        freeze "$name" "$levels" "$pid"
        expect 0 --json signal -n "runc:box$tries" TERM --all
        sample=$(grep "\"host_pid\":$pid," <<<"$out")
        [[ $sample == *'"verdict":"delayed"'* || $sample == *'"verdict":"unknown"'* ]] ||
            fail "$levels levels, the $frozen is frozen: $sample"
        # A container that is known to be paused is not stopped.
        out=$("$CINSPECT" stop -n --order all "runc:box$tries" 2>&1) || prints 'is paused'
        lacks 'graceful: '
        if [ "$frozen" = init ]; then
            expect 0 --json ls "runc:box$tries"
            lacks '"state":"running"'
        fi
        thaw
        kill -9 "$init" "$(child "$init")"
        wait_exited "$pid"
        find "$freezer$top/box" -mindepth 1 -depth -type d -execdir rmdir {} ';'
    done
done
