#!/bin/bash
# A user's process that calls itself conmon names root's list of containers, and another directory for
# the running ones.
. "${0%/*}/lib.sh"
id=$(long_id ef)
cgroup "/libpod-$id"
start "/libpod-$id" unshare -pf --mount-proc sleep 968
init=$(child "$started")
storage=storage/overlay-containers
mkdir -p "/var/lib/containers/$storage" "/run/containers/$storage/$id/userdata"
echo "[{\"id\":\"$id\",\"names\":[\"db\"],\"metadata\":\"{}\"}]" \
    >"/var/lib/containers/$storage/containers.json"
echo "$init" >"/run/containers/$storage/$id/userdata/pidfile"
cp "$(readlink -f /bin/bash)" "$work/conmon"
mkdir -p /home/overlay-containers 2>/dev/null || true
cgroup /user
start_user /user "$work/conmon" -c 'sleep 967; true' \
    -b "/var/lib/containers/$storage/x/userdata" -p /home/overlay-containers/x/userdata/pidfile
rmdir /home/overlay-containers 2>/dev/null || true
expect 0 --json ls db
prints '"name":"db"'
prints '"verified":true'
expect 0 signal db 0
