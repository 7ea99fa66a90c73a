#!/bin/bash
# The PID in a record of Docker's that outlived its container is a user's process now, in a cgroup that
# the user called so, or with a folder mounted that the user called so.
. "${0%/*}/lib.sh"
id=$(long_id ab)
cgroup /user
of 1234 /user
cgroup "/user/$id"
of 1234 "/user/$id"
start_user "/user/$id" sleep 974
docker_record "$id" "$started"
expect 3 signal web TERM
lives "$started"
mkdir -p "$work/$id"
start_user /user unshare -Urm sh -c "mount --bind $work/$id /mnt; exec sleep 973"
docker_record "$id" "$started"
expect 3 signal web TERM
lives "$started"
# Root's own bears it out.
cgroup "/docker/$id"
start "/docker/$id" sleep 972
docker_record "$id" "$started"
expect 0 signal web TERM
ended "$started"
