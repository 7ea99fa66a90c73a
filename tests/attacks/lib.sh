# shellcheck shell=bash
# What the attacks share. Each runs as root in a mount namespace of its own, with empty folders in the
# places of the engines' records, and with cgroups of its own that are gone afterwards.
set -euo pipefail

# Whoever runs one by itself keeps /run and /var/lib as they are.
[ "${CINSPECT_APART:-}" = yes ] || CINSPECT_APART=yes exec unshare -m -- bash "$0" "$@"

mount --make-rprivate /
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /var/lib
work=$(mktemp -d)
chmod 755 "$work"

if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    hierarchies=/sys/fs/cgroup
else
    hierarchies=$(find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d)
fi
# One of them, by which a record names its cgroup.
for hierarchy in /sys/fs/cgroup/pids /sys/fs/cgroup; do
    [ -d "$hierarchy" ] && break
done
top=/attack-$$

leave() {
    local status=$?
    set +e
    for dir in $hierarchies; do
        # shellcheck disable=SC2046
        [ -d "$dir$top" ] && kill -9 $(find "$dir$top" -name cgroup.procs -exec cat {} +) 2>/dev/null
    done
    sleep 0.2
    for dir in $hierarchies; do
        [ -d "$dir$top" ] && find "$dir$top" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    rm -rf "$work"
    exit "$status"
}
trap leave EXIT

fail() {
    printf '%.2000s\n' "$*" >&2
    exit 1
}

# A cgroup below ours, in every hierarchy; `of` gives it to a user.
cgroup() {
    local path='' part dir file
    for part in ${top#/} ${1//\// }; do
        path=$path/$part
        for dir in $hierarchies; do
            mkdir -p "$dir$path"
            # A new v1 cpuset takes nobody before it has processors and memory.
            for file in cpuset.cpus cpuset.mems; do
                [ ! -e "$dir$path/$file" ] || cat "$dir/$file" >"$dir$path/$file"
            done
        done
    done
}

of() {
    local dir
    for dir in $hierarchies; do
        chown -R "$1" "$dir$top$2"
    done
}

# Moves a process into one of our cgroups; to the root with an empty path and `home`.
enter() {
    local dir
    for dir in $hierarchies; do
        echo "$2" >"$dir$top$1/cgroup.procs"
    done
}

# Starts a command in one of our cgroups; its PID is in `started`.
start() {
    local path=$1
    shift
    (
        enter "$path" "$BASHPID"
        exec setsid "$@"
    ) </dev/null >/dev/null 2>&1 &
    started=$!
    sleep 0.5
    kill -0 "$started" || fail "cannot start: $*"
}

# The same as user 1234.
start_user() {
    local path=$1
    shift
    start "$path" setpriv --reuid 1234 --regid 1234 --clear-groups "$@"
}

# The first child of a process.
child() {
    local child
    read -r child _ <"/proc/$1/task/$1/children"
    echo "$child"
}

ticks() {
    sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20
}

# runc's record: NAME PID CGROUP [FOLDER]; the cgroup below ours unless it begins with `=`.
record() {
    local dir=${4:-/run/runc}/$1 path=$top$3
    case $3 in =*) path=${3#=} ;; esac
    mkdir -p "$dir"
    printf '{"id":"%s","init_process_pid":%d,"init_process_start":%s,"cgroup_paths":{"pids":"%s%s"}}' \
        "$1" "$2" "$(ticks "$2")" "$hierarchy" "$path" >"$dir/state.json"
}

# Docker's record: ID PID.
docker_record() {
    mkdir -p "/var/lib/docker/containers/$1"
    printf '{"State":{"Running":true,"Pid":%d},"ID":"%s","Config":{"Image":"x"},"Name":"/web"}' \
        "$2" "$1" >"/var/lib/docker/containers/$1/config.v2.json"
}

long_id() {
    printf "$1%.0s" $(seq 32)
}

# Runs cinspect, which has to leave with this status; what it said is in `out`.
expect() {
    local wanted=$1 status=0
    shift
    out=$("$CINSPECT" "$@" 2>&1) || status=$?
    [ "$status" = "$wanted" ] || fail "cinspect $* left with $status, not $wanted: $out"
}

says() {
    [[ $out == *"$1"* ]] || fail "it does not say '$1': $out"
}

silent_on() {
    [[ $out != *"$1"* ]] || fail "it says '$1': $out"
}

lives() {
    sleep 0.3
    [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" || fail "process $1 was hit"
}

ended() {
    sleep 0.3
    ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" || fail "process $1 lives"
}
