# shellcheck shell=bash
# Shared by the attacks. Each runs as root in its own mount namespace, with empty directories in place of
# the engines' records, and with its own cgroups, which are removed at the end.
set -euo pipefail

# A script that is run by itself must not change /run and /var/lib.
[ "${CINSPECT_ISOLATED:-}" = yes ] || CINSPECT_ISOLATED=yes exec unshare -m -- bash "$0" "$@"

mount --make-rprivate /
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /var/lib
work=$(mktemp -d)
chmod 755 "$work"

# (Beside the hierarchies there may be directories on which none could be mounted.)
hierarchies=$(findmnt -nlo TARGET -t cgroup,cgroup2 | grep ^/sys/fs/cgroup)
# The hierarchy by which a record names its cgroup.
for hierarchy in /sys/fs/cgroup/pids /sys/fs/cgroup; do
    [ -d "$hierarchy" ] && break
done
top=/attack-$$

cleanup() {
    local status=$?
    set +e
    # A frozen process is not killed.
    ! declare -F thaw >/dev/null || thaw
    for dir in $hierarchies; do
        # shellcheck disable=SC2046
        [ -d "$dir$top" ] && kill -9 $(find "$dir$top" -name cgroup.procs -exec cat {} +) 2>/dev/null
    done
    # A cgroup is busy until the last process in it has exited.
    for _ in $(seq 1000); do
        for dir in $hierarchies; do
            [ -d "$dir$top" ] && find "$dir$top" -depth -type d -exec rmdir {} + 2>/dev/null
        done
        gone && break
        sleep 0.05
    done
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT

gone() {
    local dir
    for dir in $hierarchies; do
        [ ! -d "$dir$top" ] || return 1
    done
}

fail() {
    printf '%.2000s\n' "$*" >&2
    exit 1
}

# Makes a cgroup below `top` in every hierarchy.
cgroup() {
    local path='' part dir file
    for part in ${top#/} ${1//\// }; do
        path=$path/$part
        for dir in $hierarchies; do
            mkdir -p "$dir$path"
            # A new v1 cpuset takes no process before it has processors and memory.
            for file in cpuset.cpus cpuset.mems; do
                [ ! -e "$dir$path/$file" ] || cat "$dir/$file" >"$dir$path/$file"
            done
        done
    done
}

# Makes nested cgroups below one and moves a process into the last, the working directory then: DIRECTORY NAME LEVELS
# PID. (A path may be too long for one mkdir(1).)
nest() {
    cd "$1" || exit 1
    for _ in $(seq "$3"); do
        mkdir "$2"
        cd -P "$2" 2>/dev/null || cd "./$2" || exit 1
    done
    echo "$4" >cgroup.procs
}

# Gives a cgroup to a user: USER CGROUP.
own_by() {
    local dir
    for dir in $hierarchies; do
        chown -R "$1" "$dir$top$2"
    done
}

# Moves a process into a cgroup below `top`: CGROUP PID.
enter() {
    local dir
    for dir in $hierarchies; do
        echo "$2" >"$dir$top$1/cgroup.procs"
    done
}

# Starts a command in a cgroup below `top`, and waits until it and its children sleep and start no more,
# unless `busy` is set; its PID is in `started`.
start() {
    local path=$1
    shift
    (
        enter "$path" "$BASHPID"
        exec setsid "$@"
    ) </dev/null >/dev/null 2>&1 &
    started=$!
    [ -n "${busy:-}" ] || settle "$started"
    kill -0 "$started" || fail "cannot start: $*"
}

# Waits until a process and its descendants stay asleep. One that waits for a CPU or a disk does not
# sleep: a busy machine does not make it look ready.
settle() {
    local last='' now same=0
    for _ in $(seq 1200); do
        sleep 0.1
        now=$(tree "$1")
        same=$((same + 1))
        [ "$now" = "$last" ] && [[ $now != *' R '* && $now != *' D '* ]] || same=0
        [ $same -lt 5 ] || return 0
        last=$now
    done
    fail "not ready: $now"
}

# Prints the PID, the name and the state of a process and of its descendants.
tree() {
    local stat rest child
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    rest=${stat##*) }
    echo "${stat%) *} ${rest%% *} "
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        tree "$child"
    done
}

# Starts a command as user 1234.
start_user() {
    local path=$1
    shift
    start "$path" setpriv --reuid 1234 --regid 1234 --clear-groups "$@"
}

# Prints the first child of a process.
child() {
    local child
    read -r child _ <"/proc/$1/task/$1/children"
    echo "$child"
}

ticks() {
    sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20
}

# Writes runc's record: NAME PID CGROUP [DIRECTORY]; the cgroup is below `top` unless it begins with `=`.
record() {
    local dir=${4:-/run/runc}/$1 path=$top$3
    case $3 in =*) path=${3#=} ;; esac
    mkdir -p "$dir"
    printf '{"id":"%s","init_process_pid":%d,"init_process_start":%s,"cgroup_paths":{"pids":"%s%s"}}' \
        "$1" "$2" "$(ticks "$2")" "$hierarchy" "$path" >"$dir/state.json"
}

# Writes Docker's record: ID PID.
docker_record() {
    mkdir -p "/var/lib/docker/containers/$1"
    printf '{"State":{"Running":true,"Pid":%d},"ID":"%s","Config":{"Image":"x"},"Name":"/web"}' \
        "$2" "$1" >"/var/lib/docker/containers/$1/config.v2.json"
}

long_id() {
    printf "$1%.0s" $(seq 32)
}

# Runs cinspect, which must exit with this status; its output is in `out`.
expect() {
    local wanted=$1 status=0
    shift
    out=$("$CINSPECT" "$@" 2>&1) || status=$?
    [ "$status" = "$wanted" ] || fail "cinspect $*: exit status $status, not $wanted: $out"
}

prints() {
    [[ $out == *"$1"* ]] || fail "the output lacks '$1': $out"
}

lacks() {
    [[ $out != *"$1"* ]] || fail "the output has '$1': $out"
}

# Waits until a process has acted on every signal that was sent to it: it sleeps with no signal pending
# and does not exit (PF_EXITING), or it has exited.
wait_settled() {
    local flags
    for _ in $(seq 6000); do
        ! exited "$1" || return 0
        if grep -q '^State:.[ST]' "/proc/$1/status" && ! grep -Eq '^(Sig|Shd)Pnd:.*[1-9a-f]' "/proc/$1/status"; then
            flags=$(sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f7)
            [ $((flags & 4)) != 0 ] || return 0
        fi
        sleep 0.02
    done 2>/dev/null
    fail "process $1 does not settle"
}

# Waits until a command succeeds.
wait_until() {
    for _ in $(seq 2400); do
        ! "$@" 2>/dev/null || return 0
        sleep 0.05
    done
    fail "not within 2 min: $*"
}

exited() {
    ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

# A process was not hit by any signal sent so far.
unharmed() {
    wait_settled "$1"
    ! exited "$1" || fail "process $1 was killed"
}

wait_exited() {
    for _ in $(seq 6000); do
        ! exited "$1" || return 0
        sleep 0.02
    done
    fail "process $1 still runs"
}
