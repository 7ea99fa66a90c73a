#!/bin/bash
# A user writes a record whose cgroup holds root's processes, or is the root cgroup in an unusual
# spelling.
. "${0%/*}/lib.sh"
cgroup /slice
cgroup /slice/session
start_user /slice/session unshare -Ur sleep 984
users=$started
start /slice sleep 983
roots=$started
mkdir -p /run/user/1234/runc
for path in /slice =// =/ =/./ =/; do
    record web "$users" "$path" /run/user/1234/runc
    chown -R 1234:1234 /run/user/1234
    expect 0 --json signal -n web TERM --all
    lacks "\"host_pid\":$roots,"
done
expect 0 signal web KILL --all
wait_exited "$users"
unharmed "$roots"
# A record with root's process as its init is refused, with any cgroup.
record web "$roots" /slice /run/user/1234/runc
chown -R 1234:1234 /run/user/1234
expect 3 signal web KILL --all
unharmed "$roots"
# A program that runs as root may be in a cgroup that the user owns.
cgroup /slice/own
own_by 1234 /slice/own
start_user /slice/own unshare -Ur sleep 982
users=$started
start /slice/own sleep 981
roots=$started
record web "$users" /slice/own /run/user/1234/runc
chown -R 1234:1234 /run/user/1234
expect 0 signal web KILL --all
wait_exited "$users"
unharmed "$roots"
