#!/bin/bash
# A container that may make cgroups makes one named like that of LXC's container `web`, which is
# configured on the host and stopped.
. "${0%/*}/lib.sh"
cgroup /outer
cgroup /outer/lxc.payload.web
mkdir -p /var/lib/lxc/web
echo 'lxc.rootfs.path = dir:/x' >/var/lib/lxc/web/config
# shellcheck disable=SC2016
start /outer unshare -pf --mount-proc sh -c 'sleep 971 & wait; true'
init=$(child "$started")
record outer "$init" /outer
inner=$(child "$init")
enter /outer/lxc.payload.web "$inner"
expect 3 signal lxc:web KILL
unharmed "$inner"
