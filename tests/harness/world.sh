#!/usr/bin/env bash
# A small world of its own: runs a command as PID 1 of new PID, mount, network, IPC and cgroup namespaces,
# with empty directories in place of the engines' records and of temporary files, and without any mount
# that the command does not need. The view from there does not depend on the rest of the host, where
# other tests may run. Killing this script ends everything in it.
#
#   world.sh COMMAND...
set -euo pipefail

if [ "${1:-}" != --inside ]; then
    # (Beside the hierarchies there may be directories on which none could be mounted.)
    hierarchies=$(findmnt -nlo TARGET -t cgroup,cgroup2 | grep ^/sys/fs/cgroup)
    name=cinspect-world-$$
    # shellcheck disable=SC2317 # the trap calls it
    cleanup() {
        local dir
        set +e
        for dir in $hierarchies; do
            echo $$ > "$dir/cgroup.procs"
            # A cgroup is busy until the last process in it has exited.
            for _ in $(seq 200); do
                [ -d "$dir/$name" ] || break
                find "$dir/$name" -depth -type d -exec rmdir {} + && break
                sleep 0.05
            done
        done 2> /dev/null
    }
    trap cleanup EXIT
    for dir in $hierarchies; do
        mkdir "$dir/$name"
        # A new v1 cpuset takes no process before it has processors and memory.
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$dir/$name/$file" ] || cat "$dir/$file" > "$dir/$name/$file"
        done
        echo $$ > "$dir/$name/cgroup.procs"
    done
    status=0
    unshare -C -m -n -i --propagation private -p -f --kill-child --mount-proc -- bash "$0" --inside "$@" || status=$?
    exit $status
fi
shift

if [ "$(findmnt -nfo FSTYPE /sys/fs/cgroup)" = cgroup2 ]; then
    mount -t cgroup2 none /sys/fs/cgroup
else
    names=$(findmnt -nlo TARGET -t cgroup,cgroup2 | sed -n 's|^/sys/fs/cgroup/||p')
    mount -t tmpfs none /sys/fs/cgroup
    for name in $names; do
        mkdir "/sys/fs/cgroup/$name"
        case $name in
            unified) mount -t cgroup2 none /sys/fs/cgroup/unified ;;
            systemd) mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd ;;
            *) mount -t cgroup -o "$name" none "/sys/fs/cgroup/$name" ;;
        esac || rmdir "/sys/fs/cgroup/$name"
    done
fi
# Whether a mount point is needed: those of the kernel's file systems, of the system's programs, and those
# on the way to the command.
is_needed() {
    case $1 in
        / | /proc | /dev | /dev/?* | /sys | /sys/?* | /usr | /usr/?* | /bin | /sbin | /lib* | /etc) return 0 ;;
    esac
    local path
    for path in "$PWD" "$command" "${CINSPECT:-}"; do
        case $path in "$1" | "$1"/*) return 0 ;; esac
    done
    return 1
}
# Any other would disappear in the middle: the kernel detaches a mount whose mount point is removed
# elsewhere.
command=$(command -v "$1")
mapfile -t mounts < /proc/self/mountinfo
for ((number = ${#mounts[@]} - 1; number >= 0; number--)); do
    read -r _ _ _ _ point _ <<< "${mounts[number]}"
    point=$(printf '%b' "$point")
    is_needed "$point" || umount -l "$point" 2> /dev/null || true
done
for dir in /run /var/lib; do mount -t tmpfs -o mode=755 none "$dir"; done
mkdir -m 1777 /run/tmp
export TMPDIR=/run/tmp HOME=/run/tmp
exec "$@"
