#!/bin/bash
# Thousands of records in a user's folder, broken or huge: a few lines say so, and root's container is
# found all the same.
. "${0%/*}/lib.sh"
cgroup /web
start /web unshare -pf sleep 969
record web "$(child "$started")" /web
mkdir -p /run/user/1234/runc
cd /run/user/1234/runc
seq 6000 | xargs mkdir
for n in $(seq 6000); do echo x >"$n/state.json"; done
chown -R 1234:1234 /run/user/1234
expect 0 ls
says runc
[ "$(wc -l <<<"$out")" -lt 20 ] || fail "$(wc -l <<<"$out") lines"
head -c 4194304 /dev/zero | tr '\0' ' ' >1/state.json
chown 1234 1/state.json
for n in $(seq 2 6000); do ln -f 1/state.json "$n/state.json"; done
(
    # As many as are read are soon enough.
    ulimit -t 20
    expect 0 ls
    says runc
)
cd /
