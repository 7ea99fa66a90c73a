#!/bin/bash
# A user writes a record whose cgroup is one that root's processes are in, or spells the root so that
# it does not look like it.
. "${0%/*}/lib.sh"
cgroup /slice
cgroup /slice/session
start_user /slice/session unshare -Ur sleep 984
own=$started
start /slice sleep 983
roots=$started
mkdir -p /run/user/1234/runc
for path in /slice =// =/ =/./ =/; do
    record web "$own" "$path" /run/user/1234/runc
    chown -R 1234:1234 /run/user/1234
    expect 0 signal -n web TERM --all
    silent_on "$roots"
done
expect 0 signal web KILL --all
ended "$own"
lives "$roots"
# Nor another's process, by any cgroup.
record web "$roots" /slice /run/user/1234/runc
chown -R 1234:1234 /run/user/1234
expect 3 signal web KILL --all
lives "$roots"
# In a cgroup of the user's own there may be a program that runs as root.
cgroup /slice/own
of 1234 /slice/own
start_user /slice/own unshare -Ur sleep 982
own=$started
start /slice/own sleep 981
roots=$started
record web "$own" /slice/own /run/user/1234/runc
chown -R 1234:1234 /run/user/1234
expect 0 signal web KILL --all
ended "$own"
lives "$roots"
