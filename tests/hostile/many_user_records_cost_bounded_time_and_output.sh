#!/bin/bash
# Thousands of broken or huge records in a user's directory give a few lines of warnings, and root's
# container is still found.
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
prints runc
# (Each other container of this host is a line, too.)
warnings=$(grep -c 'warning' <<<"$out")
[ "$warnings" -gt 0 ] && [ "$warnings" -lt 20 ] || fail "$warnings warnings"
head -c 4194304 /dev/zero | tr '\0' ' ' >1/state.json
chown 1234 1/state.json
for n in $(seq 2 6000); do ln -f 1/state.json "$n/state.json"; done
(
    # The number of records that are read is bounded.
    ulimit -t 20
    expect 0 ls
    prints runc
)
cd /
