#!/bin/bash
# `web` is stopped and `web-staging` runs: neither `web` nor `w` is its name.
. "${0%/*}/lib.sh"
cgroup /staging
start /staging unshare -pf sleep 982
init=$(child "$started")
record web-staging "$init" /staging
record web "$init" /staging
sed -i "s/\"init_process_pid\":$init/\"init_process_pid\":4194000/" /run/runc/web/state.json
expect 3 signal web KILL
prints "it exists in runc but is not running"
expect 3 signal w KILL
unharmed "$init"
# The prefix of a running container's ID is the full name of a stopped container.
id=$(long_id ab)
cgroup "/$id"
start "/$id" unshare -pf sleep 981
long=$(child "$started")
docker_record "$id" "$long"
expect 0 signal -n abab TERM
record abab "$init" /staging
sed -i "s/\"init_process_pid\":$init/\"init_process_pid\":4194000/" /run/runc/abab/state.json
expect 3 signal abab KILL
unharmed "$long"
