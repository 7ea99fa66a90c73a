#!/bin/bash
# A stale Docker record: its PID now belongs to a user's process, in a cgroup that the user named after
# the container, or with a directory of that name mounted.
. "${0%/*}/lib.sh"
id=$(long_id ab)
cgroup /user
own_by 1234 /user
cgroup "/user/$id"
own_by 1234 "/user/$id"
start_user "/user/$id" sleep 974
docker_record "$id" "$started"
expect 3 signal web TERM
unharmed "$started"
mkdir -p "$work/$id"
start_user /user unshare -Urm sh -c "mount --bind $work/$id /mnt; exec sleep 973"
docker_record "$id" "$started"
expect 3 signal web TERM
unharmed "$started"
# A cgroup made by root confirms the record.
cgroup "/docker/$id"
start "/docker/$id" sleep 972
docker_record "$id" "$started"
expect 0 signal web TERM
wait_exited "$started"
