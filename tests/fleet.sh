#!/bin/sh
# A fleet on one machine: three hosts, each with its own sshd, host name, /run, processes and containers,
# on which the recipes of contrib/fleet/README.md are run verbatim; then the pod of the DaemonSet, as far
# as Docker can run it. Needs root, clustershell ansible-core openssh-server
# openssh-client runc crun jq python3-yaml busybox-static, and for the pod the engine docker of tests/run.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
port=2222

# A host: this script as PID 1 in new namespaces.
if [ "${1:-}" = host ]; then
    name=$2 dir=$3/$2
    mount --make-rprivate /
    mount -t proc proc /proc
    echo "$name" > /proc/sys/kernel/hostname
    for directory in /run /tmp /root /usr/local/bin; do mount -t tmpfs tmpfs "$directory"; done
    mkdir /run/sshd
    # sshd refuses a locked root account.
    mount --bind "$3/shadow" /etc/shadow
    # On a hybrid host crun refuses to start while the v2 hierarchy has controllers.
    [ ! -e /sys/fs/cgroup/unified/cgroup.controllers ] || mount --bind /dev/null /sys/fs/cgroup/unified/cgroup.controllers
    [ ! -d "$dir/web" ] || runc run -d --bundle "$dir/web" web < /dev/null > "$dir/runc.log" 2>&1
    exec /usr/sbin/sshd -D -e -f "$dir/sshd_config" < /dev/null > "$dir/sshd.log" 2>&1
fi

step=start
# Writes a result for tests/run.
note() {
    [ -z "${CINSPECT_TEST_REPORT:-}" ] || printf 'fleet\t%s\t%s\t%s\n' "$step" "$1" "${2:-}" >> "$CINSPECT_TEST_REPORT"
}
fail() {
    printf 'fleet: %s: %.3000s\n' "$step" "$*" >&2
    exit 1
}
# Ends the current step as passed, and begins the next one.
begin() {
    [ "$step" = start ] || { note ok; echo "ok $step"; }
    step=$1
}
# Reports a step that cannot run; fails if it is required.
could_not() {
    [ -z "${CINSPECT_TEST_REQUIRE:-}" ] || fail "$*"
    note could-not "$*"
    echo "could not: $step: $*"
}

# Private mount, network and PID namespaces: nothing here disturbs the host.
if [ "${1:-}" != isolated ]; then
    [ "$(id -u)" = 0 ] || { echo "tests/fleet.sh: needs root" >&2; exit 77; }
    step="required programs are installed"
    for program in clush ansible-playbook /usr/sbin/sshd ssh ssh-keygen runc crun jq python3 busybox; do
        command -v "$program" > /dev/null || { (could_not "no $program") || { note failed; exit 1; }; exit 0; }
    done
    static=$(contrib/static --quiet) || { step="the static program is built"; note failed; exit 1; }
    # Whether Docker can propagate later mounts of the host.
    shared=private
    if grep -Eq '^([^ ]+ ){4}/ .* shared:' /proc/self/mountinfo; then shared=shared; fi
    # Killing this process kills all of it.
    exec unshare -m -n -p -f --kill-child -- sh "$top/tests/fleet.sh" isolated "$(realpath "${static%% *}")" $shared
fi
static=$2 shared=$3
mount --make-rprivate /
mount -t proc proc /proc
busybox ifconfig lo up
# Not below /tmp, which every host has for itself.
work=$(mktemp -d /var/tmp/cinspect-fleet.XXXXXX)
chmod 755 "$work"
# The prefix of cgroup names, and the name of an image, which must be lower case.
group=$(echo "${work##*/}" | tr '[:upper:]' '[:lower:]')
hosts='' docker=''

end_hosts() {
    # PID 1 of a host is killed with its parent, and everything in its namespace with it.
    # shellcheck disable=SC2086
    [ -z "$hosts" ] || { kill -9 $hosts; wait $hosts; } 2> /dev/null || true
    hosts=''
    for _ in $(seq 600); do
        find /sys/fs/cgroup -depth -type d -path "*/$group-*" -exec rmdir {} + 2> /dev/null || true
        [ -n "$(find /sys/fs/cgroup -type d -name "$group-*")" ] || return 0
        sleep 0.2
    done
    fail "cgroups remain: $(find /sys/fs/cgroup -type d -name "$group-*")"
}

cleanup() {
    status=$?
    trap - EXIT
    set +e
    [ "$status" = 0 ] || note failed
    (end_hosts) || status=1
    if [ -n "$docker" ]; then
        $docker ps -aq --filter "label=$group" | xargs -r $docker rm -f > /dev/null 2>&1
        $docker rmi "$group" > /dev/null 2>&1
    fi
    rm -rf --one-file-system "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Runs a command, which must exit with this status; its stdout is in `out`, its stderr in `err`.
expect() {
    wanted=$1 status=0
    shift
    out=$("$@" 2> "$work/err" < /dev/null) || status=$?
    err=$(cat "$work/err")
    [ "$status" = "$wanted" ] || fail "$*: exit status $status, not $wanted: $out $err"
}
prints() {
    case $out$err in *"$1"*) ;; *) fail "the output lacks '$1': $out $err" ;; esac
}
# Verifies a jq expression on the list of the objects in an NDJSON file.
holds() {
    jq -se "$2" "$1" > "$work/jq" 2>&1 || fail "not so: $2: $(cat "$work/jq") in $(cat "$1")"
}
# Prints a code block of the README by its name.
block() {
    awk -v mark="<!-- fleet: $1 -->" '$0 == mark { f = 1; next } f == 1 { f = $0 == "```sh" ? 2 : 0; next }
        f == 2 && $0 == "```" { exit } f == 2' contrib/fleet/README.md > "$work/block"
    [ -s "$work/block" ] || fail "the README has no block $1"
    cat "$work/block"
}
# Runs a block in a directory with the program and contrib/.
recipe() {
    block "$2" > /dev/null
    ran="$ran $2"
    expect "$1" sh -euc 'cd "$1" && . "$2"' sh "$work/here" "$work/block"
}
ran=''

begin "three hosts are up"
mkdir -p "$work/here" "$work/home" "$work/clush" "$work/bin" "$work/image"
cp "$static" "$work/here/cinspect"
ln -s "$top/contrib" "$work/here/contrib"
echo 'root:*:19000:0:99999:7:::' > "$work/shadow"
ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/key"
cat > "$work/worker" <<'EOF'
#!/bin/sh
# Exits on TERM, and has no children.
trap 'exit 0' TERM
mkfifo /tmp/fifo.$$
exec 3<> /tmp/fifo.$$
while :; do read -r _ <&3; done
EOF
chmod 755 "$work/worker"

# Makes a bundle: HOST CONTAINER CMD...
bundle() {
    host=$1 name=$2
    shift 2
    mkdir -p "$work/$host/$name/rootfs/bin" "$work/$host/$name/rootfs/tmp"
    (
        cd "$work/$host/$name"
        for directory in proc sys dev; do mkdir "rootfs/$directory"; done
        cp /bin/busybox "$work/worker" rootfs/bin/
        for applet in sh sleep mkfifo; do ln -s busybox "rootfs/bin/$applet"; done
        runc spec
        jq --arg group "/$group-$host-$name" '.process.terminal = false | .process.args = $ARGS.positional
            | .root.readonly = false | del(.process.rlimits) | .linux.cgroupsPath = $group
            | .mounts |= map(select(.type != "cgroup"))' --args -- "$@" < config.json > new
        mv new config.json
    )
}
bundle h1 web worker
bundle h2 web sh -c 'worker & sleep 1000; true'
bundle h1 deaf sh -c 'sleep 1000; true'
bundle h2 deaf sh -c 'sleep 1000; true'
# A container of the same name for another engine, without a cgroup namespace and limits.
bundle h1 second worker
jq '.linux.namespaces |= map(select(.type != "cgroup")) | del(.linux.resources)' "$work/h1/second/config.json" > "$work/new"
mv "$work/new" "$work/h1/second/config.json"

for name in h1 h2 h3; do
    mkdir -p "$work/$name"
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/$name/key"
    cat > "$work/$name/sshd_config" << EOF
ListenAddress 127.77.0.${name#h}:$port
HostKey $work/$name/key
AuthorizedKeysFile $work/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
EOF
    echo "[127.77.0.${name#h}]:$port $(cat "$work/$name/key.pub")" >> "$work/known_hosts"
    # Background processes of a shell ignore INT and QUIT.
    env --default-signal unshare --mount --uts --ipc --pid --fork --kill-child -- \
        sh "$top/tests/fleet.sh" host "$name" "$work" < /dev/null > "$work/$name/log" 2>&1 &
    hosts="$hosts $!"
done
# h9 is down: nothing listens there.
for name in h1 h2 h3 h9; do
    printf 'Host %s\n  HostName 127.77.0.%s\n' "$name" "${name#h}" >> "$work/ssh_config"
done
cat >> "$work/ssh_config" << EOF
Host *
  Port $port
  User root
  IdentityFile $work/key
  IdentitiesOnly yes
  UserKnownHostsFile $work/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
  # One connection per host, which is closed with it.
  ControlMaster auto
  ControlPath $work/%n.socket
  ControlPersist 300
EOF
printf '[Main]\nssh_options: -F %s\n' "$work/ssh_config" > "$work/clush/clush.conf"
cat > "$work/ansible.cfg" << EOF
[defaults]
home = $work/home/ansible
local_tmp = $work/home/ansible/tmp
interpreter_python = /usr/bin/python3
nocows = true
retry_files_enabled = false
[ssh_connection]
ssh_args = -F $work/ssh_config
pipelining = true
EOF
export HOME="$work/home" TMPDIR="$work/home" CLUSTERSHELL_CFGDIR="$work/clush" ANSIBLE_CONFIG="$work/ansible.cfg" ANSIBLE_NOCOLOR=1 LC_ALL=C.UTF-8
unset SSH_AUTH_SOCK CINSPECT_HOST ANSIBLE_SSH_ARGS ANSIBLE_INVENTORY 2> /dev/null || true
for name in h1 h2 h3; do
    for _ in $(seq 240); do
        out=$(ssh -F "$work/ssh_config" "$name" uname -n < /dev/null 2>&1) && break
        sleep 0.5
    done
    [ "$out" = "$name" ] || fail "$name: $out $(cat "$work/$name"/*log)"
done

begin "check mode skips hosts without the program"
expect 0 ansible-playbook -i h1,h2,h3, contrib/fleet/doctor.yml -e program="$work/here/cinspect" --check
prints "changed=1"
expect 0 clush -S -w 'h[1-3]' 'test ! -e /usr/local/bin/cinspect'
expect 2 ansible-playbook -i h1, contrib/fleet/doctor.yml
prints "no /usr/local/bin/cinspect"

begin "the program is copied to every host"
recipe 0 put
for name in h1 h2 h3; do prints "$name: cinspect"; done

begin "a running program is replaced"
expect 0 clush -S -w h2 'cinspect ps --watch web > /dev/null 2>&1 < /dev/null & sleep 0.5; kill -0 $! && echo $! > /run/watching'
recipe 0 put
expect 0 clush -S -w h2 'kill $(cat /run/watching)'

begin "one table for the fleet"
recipe 0 table
[ "$(echo "$out" | cut -f 1-3 | tr '\t\n' ' ;')" = 'h1 runc web;h2 runc web;' ] || fail "$out"
holds "$work/here/ls.ndjson" 'map(.host) | sort == ["h1", "h2"]'

begin "names of containers print no control characters"
printf '%s\n' '{"host":"h1","engine":"lxc","name":"a\u001b[31m\u202eb\tc","id":null,"pid":1}' \
    '{"host":"h1","engine":"lxc","name":{"bytes":"/w=="},"id":null,"pid":2}' \
    '{"host":"h1","engine":"bare","name":null,"id":null,"pid":3}' > "$work/here/ls.ndjson"
block table | sed '/^clush/d' > "$work/jq-only"
expect 0 sh -euc 'cd "$1" && . "$2"' sh "$work/here" "$work/jq-only"
[ "$(echo "$out" | cut -f 3 | tr '\n' ';')" = '-;a?[31m?b?c;{"bytes":"/w=="};' ] || fail "$out"
[ -z "$(printf %s "$out" | tr -d '\11\12\40-\176')" ] || fail "$out"

begin "clush prefixes lines unless -N is given"
for how in '' -L; do
    # shellcheck disable=SC2086
    expect 0 clush $how -w h1 'cinspect --json ls'
    case $out in 'h1: {'*) ;; *) fail "$out" ;; esac
done

begin "every command prints its host"
for line in ls 'ps web' 'signals web TERM' 'signal -n web TERM' 'stop -n web' 'doctor --exit-zero web' 'inspect web' 'exec -d web -- busybox true'; do
    expect 0 clush -S -N -w 'h[1-2]' "cinspect --json $line"
    echo "$out" > "$work/lines"
    holds "$work/lines" 'length > 1 and (map(.host) | unique == ["h1", "h2"])'
done

begin "the host with the problem is found"
recipe 0 doctor
[ "$(echo "$out" | cut -f 1-3 | tr '\t\n' ' ;')" = 'h2 runc:web shell-form;' ] || fail "$out"
holds "$work/here/doctor.ndjson" 'map(select(.host == "h1")) | map(.severity) | index("problem") == null'

begin "clush passes exit statuses on"
recipe 8 status
prints "clush: h2: exited with exit code 8"
prints "clush: h3: exited with exit code 3"
prints "no running container"
expect 0 clush -w h3 'cinspect doctor web'
expect 4 clush -S -w h1 'cinspect signal web TERM --comm missing'
expect 6 clush -S -w h2 'cinspect signal web TERM --require-handler'
expect 2 clush -S -w h1 'cinspect ls --nosuch'

begin "an unreachable host is reported, and the others answer"
expect 255 clush -S -N -w 'h[1,3,9]' 'cinspect --json doctor web'
prints "clush: h9: exited with exit code 255"
prints "clush: h3: exited with exit code 3"
echo "$out" > "$work/lines"
holds "$work/lines" 'map(.host) | unique == ["h1"]'
expect 4 ansible-playbook -i h1,h9, contrib/fleet/doctor.yml
prints "UNREACHABLE"

# Lists the processes of the containers called web: HOST PID COMM each.
list_web() {
    clush -N -w 'h[1-2]' 'cinspect --json ps web' < /dev/null 2> /dev/null | jq -r '"\(.host) \(.host_pid) \(.comm)"' | sort
}
begin "TERM reaches one process on one host"
list_web > "$work/before"
grep -q '^h1 .* worker$' "$work/before" || fail "$(cat "$work/before")"
recipe 0 rehearse
prints worker
[ "$(list_web)" = "$(cat "$work/before")" ] || fail "a dry run has sent a signal"
recipe 0 send
prints worker
list_web > "$work/after"
[ "$(diff "$work/before" "$work/after" | sed -n 's/^[<>] \(h[0-9]\) [0-9]* /\1 /p')" = "h2 worker" ] ||
    fail "$(diff "$work/before" "$work/after")"

begin "an ambiguous name is an error"
expect 0 clush -S -w h1 "crun --cgroup-manager=disabled run -d --bundle $work/h1/second web < /dev/null > /run/crun.log 2>&1 || { cat /run/crun.log >&2; exit 1; }"
expect 3 clush -S -w h1 'cinspect doctor web'
prints "ambiguous"
for book in doctor stop; do
    expect 2 ansible-playbook -i h1, contrib/fleet/$book.yml -e container=web
    prints "ambiguous"
done
expect 0 clush -S -w h1 'crun --cgroup-manager=disabled delete -f web'
[ "$(list_web)" = "$(cat "$work/after")" ] || fail "$(list_web)"

begin "ansible copies the program"
expect 0 clush -S -w h3 'rm /usr/local/bin/cinspect'
recipe 0 ansible-put
prints "h3 | CHANGED"
prints "h1 | SUCCESS"
expect 0 clush -S -w 'h[1-3]' 'cinspect --version'

begin "doctor.yml fails where the problem is"
recipe 2 ansible-doctor
prints "shell-form"
for line in 'h1 .* changed=0 .* failed=0' 'h2 .* changed=0 .* failed=1' 'h3 .* changed=0 .* failed=0'; do
    echo "$out" | grep -q "^$line" || fail "no '$line': $out"
done
expect 0 ansible-playbook -i h1,h3, contrib/fleet/doctor.yml -e container=web
# An invalid name is not passed to a shell, and not taken as an option.
expect 0 ansible-playbook -i h1, contrib/fleet/doctor.yml -e '{"container": "--$(touch /run/touched)"}'
expect 0 clush -S -w h1 'test ! -e /run/touched'

begin "stop.yml ends after the first host with a killed process"
for name in h1 h2; do
    expect 0 clush -S -w $name "runc run -d --bundle $work/$name/deaf deaf < /dev/null > /run/deaf.log 2>&1"
done
expect 2 ansible-playbook -i h2,h1, contrib/fleet/stop.yml -e container=deaf -e '{"options": ["-t", "1s"]}'
echo "$out" | grep -q '^h2 .* failed=1' || fail "$out"
if echo "$out" | grep -q '^h1 '; then fail "$out"; fi
expect 0 clush -S -w h1 'cinspect ps deaf'
expect 3 clush -S -w h2 'cinspect ps deaf'

begin "stop.yml in check mode stops nothing"
recipe 0 ansible-rehearse
[ "$(list_web)" = "$(cat "$work/after")" ] || fail "a check has stopped something"

begin "stop.yml stops it on every host"
recipe 0 ansible-stop
for line in 'h1 .* changed=1 .* failed=0' 'h2 .* changed=1 .* failed=0' 'h3 .* changed=0 .* failed=0'; do
    echo "$out" | grep -q "^$line" || fail "no '$line': $out"
done
[ -z "$(list_web)" ] || fail "$(list_web)"
recipe 0 ansible-stop
if echo "$out" | grep -q 'changed=1'; then fail "$out"; fi

begin "no cgroup of a host remains"
end_hosts

begin "the manifest has the tested settings"
# The pod as options of `docker run`, without settings that Docker does not have. An unknown setting is an
# error.
cat > "$work/pod.py" << 'EOF'
import shlex, sys, yaml
shared = sys.argv[2] == "shared"
*namespaces, daemonset = yaml.safe_load_all(open(sys.argv[1]))
app = sys.argv[3]
assert daemonset["kind"] == "DaemonSet" and daemonset["metadata"]["namespace"] == "cinspect"
assert daemonset["metadata"]["name"] == app
for namespace in namespaces:
    assert namespace["kind"] == "Namespace" and namespace["metadata"]["name"] == "cinspect"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
assert len(namespaces) == (app == "cinspect")
spec = daemonset["spec"]
labels = {"app": app}
assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == labels
pod = spec["template"]["spec"]
container, = pod["containers"]
security = dict(container["securityContext"])
options = []
if pod.get("hostPID"):
    options.append("--pid=host")
volumes = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
for mount in container["volumeMounts"]:
    flags = ["ro" if mount["readOnly"] else "rw"]
    assert mount["mountPropagation"] == "HostToContainer"
    # Docker refuses it if / of the host is not a shared mount.
    flags += ["rslave"] if shared else []
    options.append("--volume=%s:%s:%s" % (volumes[mount["name"]], mount["mountPath"], ",".join(flags)))
capabilities = security.pop("capabilities")
options += ["--cap-drop=" + name for name in capabilities["drop"]]
options += ["--cap-add=" + name for name in capabilities["add"]]
if security.pop("privileged"):
    options.append("--privileged")
if not security.pop("allowPrivilegeEscalation"):
    options.append("--security-opt=no-new-privileges")
if security.pop("readOnlyRootFilesystem"):
    options.append("--read-only")
if security.pop("seccompProfile")["type"] == "Unconfined":
    options.append("--security-opt=seccomp=unconfined")
if security.pop("appArmorProfile")["type"] == "Unconfined":
    options.append("--security-opt=apparmor=unconfined")
options.append("--user=%d:%d" % (security.pop("runAsUser"), security.pop("runAsGroup")))
assert not security, security
memory = container["resources"]["limits"]["memory"]
options.append("--memory=" + memory.replace("Mi", "m"))
for variable in container["env"]:
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    options.append("--env=%s=NODE" % variable["name"])
print(shlex.join(options))
print(shlex.join(container["command"]))
print(pod["terminationGracePeriodSeconds"])
EOF
expect 0 python3 "$work/pod.py" contrib/fleet/cinspect-trace.yaml $shared cinspect-trace
# Docker 20.10 does not know PERFMON, and a host may have no tracefs mounted; tests/it/trace.rs shows that PERFMON
# is enough otherwise.
trace_options=$(echo "$out" | sed -n '1s/--cap-add=PERFMON/--cap-add=SYS_ADMIN/p') trace_command=$(echo "$out" | sed -n 2p)
[ -n "$trace_options" ] || fail "$out"
expect 0 python3 "$work/pod.py" contrib/fleet/cinspect-daemonset.yaml $shared cinspect
options=$(echo "$out" | sed -n 1p) command=$(echo "$out" | sed -n 2p) grace=$(echo "$out" | sed -n 3p)

begin "the pod"
case " ${CINSPECT_TEST_ENGINES-docker} " in *" docker "*) docker=$(tests/engines/docker client 2> /dev/null) || true ;; esac
if [ -z "$docker" ] || ! $docker version > /dev/null 2>&1; then
    docker=''
    could_not "the engine docker is not up"
    exit 0
fi
cp "$static" "$work/image/cinspect"
expect 0 env DOCKER_BUILDKIT=0 $docker build -q --build-arg BASE=bb:latest -t "$group" -f contrib/fleet/Containerfile "$work/image"
# Starts the pod of a node: NODE OPTIONS...
pod() {
    node=$1
    shift
    eval "set -- $(echo "$options" | sed "s/=NODE/=$node/") \"\$@\""
    # shellcheck disable=SC2086
    expect 0 $docker run -d --name "cinspect-$node" --label "$group" --hostname "pod-$node" --network none "$@" "$group" $command
}
# The host name of the pod is not that of its node.
pod node-1
pod node-2
expect 0 env CIT_OPTIONS="--user 1000 --label $group --label app=web" tests/engines/docker run web -- sh -c 'sleep 1000 & sleep 1001; true'

# Kubernetes is replaced: this kubectl answers only the calls of the recipes, from Docker. It does not
# verify that the real kubectl accepts them.
cat > "$work/bin/kubectl" << EOF
#!/bin/sh
set -eu
[ "\$1 \$2" = '-n cinspect' ] || { echo "kubectl: which namespace?" >&2; exit 1; }
shift 2
case "\$*" in
    'get pods -l app=cinspect --field-selector status.phase=Running -o name') printf 'pod/cinspect-%s\n' node-1 node-2 ;;
    'get pods -l app=cinspect --field-selector spec.nodeName=node-1 -o name') echo pod/cinspect-node-1 ;;
    'logs -l app=cinspect-trace --tail=-1 --max-log-requests=100') for node in node-1 node-2; do $docker logs "cinspect-trace-\$node" 2>&1; done ;;
    'exec pod/cinspect-node-'[12]' -- '*) pod=\${2#pod/}; shift 3; exec $docker exec "\$pod" "\$@" ;;
    *) echo "kubectl: not understood: \$*" >&2; exit 1 ;;
esac
EOF
chmod 755 "$work/bin/kubectl"
PATH=$work/bin:$PATH

begin "kubectl's recipe for all nodes"
recipe 0 kubectl-all
holds "$work/here/ls.ndjson" 'map(select(.name == "web" and .engine == "docker")) | map(.host) | sort == ["node-1", "node-2"]'
holds "$work/here/ls.ndjson" 'map(.host) | unique == ["node-1", "node-2"]'

# Without CINSPECT_HOST the name is from the host's file, which may be missing; never that of the pod.
if [ -s /etc/hostname ]; then
    expect 0 $docker exec -e CINSPECT_HOST= cinspect-node-1 cinspect --host-root /host --json doctor --exit-zero docker:web
    echo "$out" > "$work/lines"
    holds "$work/lines" "map(.host) | unique == [\"$(grep -v '^#' /etc/hostname | tr -d ' \n')\"]"
fi

begin "kubectl's recipe for one node"
recipe 0 kubectl-one
prints '"host":"node-1"'
prints '"severity":"problem"'
prints 'discarded'

# Runs cinspect in the pod of node-1.
in_pod() { expect "$1" "$work/bin/kubectl" -n cinspect exec pod/cinspect-node-1 -- cinspect --host-root /host "$2" "$3" docker:web ${4:+"$4"} ${5:+"$5"} ${6:+"$6"} ${7:+"$7"}; }
begin "commands that only read work in the pod"
for line in ps signals inspect doctor; do
    in_pod "$([ "$line" = doctor ] && echo 8 || echo 0)" --json "$line"
    echo "$out" | head -n 1 > "$work/lines"
    holds "$work/lines" 'map(.host) == ["node-1"]'
done
in_pod 0 --json ps
echo "$out" > "$work/lines"
holds "$work/lines" 'map(.on_signal.verdict) | sort == ["discarded", "terminates", "terminates"]'

begin "a signal from the pod reaches only the selected process"
in_pod 0 --json signal TERM --match '^sleep 1000$' --wait=120s
expect 0 $docker top web -eo pid,args
[ "$(echo "$out" | sed '1d; s/^ *[0-9]* *//' | sort | tr '\n' '|')" = 'sh -c sleep 1000 & sleep 1001; true|sleep 1001|' ] || fail "$out"

begin "the pod reports what it cannot do"
in_pod 125 -v exec -- true
# The same pod in a PID namespace of its own.
eval "set -- $(echo "$options" | sed 's/--pid=host//')"
expect 0 tests/engines/docker init web
expect 5 $docker run --rm --network none "$@" "$group" cinspect --host-root /host signal "pid:$out" CONT
prints hostPID

begin "without a capability it fails as documented"
all=$options
without() {
    options=$(echo "$all" | sed "s/--cap-add=$1 *//")
    [ "$options" != "$all" ] || fail "the manifest does not add $1"
    pod "without-$2"
    options=$all
}
in_pod_without() { expect "$1" $docker exec "cinspect-without-$2" cinspect --host-root /host --json "$3" docker:web ${4:+"$4"}; }
without KILL kill
in_pod_without 5 kill signal CONT
prints CAP_KILL
without SYS_PTRACE ptrace
in_pod_without 0 ptrace doctor
prints '"code":"unknown"'
# Beside a container of another daemon, which is looked at first and leads to no data root.
hierarchy=/sys/fs/cgroup
[ ! -e $hierarchy/pids ] || hierarchy=$hierarchy/pids
other=$hierarchy/docker-$(printf '%064d' 0 | tr 0 a).scope
mkdir "$other"
sleep 1000 &
echo $! > "$other/cgroup.procs"
in_pod_without 0 ptrace ps
kill $!
wait $! 2> /dev/null || true
rmdir "$other"
without DAC_READ_SEARCH dac
in_pod_without 0 dac ps
prints '"verdict":"unknown"'

begin "signals are watched on every node, by label"
for node in node-1 node-2; do
    eval "set -- $(echo "$trace_options" | sed "s/=NODE/=$node/")"
    # shellcheck disable=SC2086
    expect 0 $docker run -d --name "cinspect-trace-$node" --label "$group" --hostname "pod-$node" --network none "$@" "$group" $trace_command
done
# Signals a container until both nodes print it: CONTAINER.
until_watched() {
    for _ in $(seq 120); do
        # (Without the label, and not an init: USR1 would end it.)
        expect 0 $docker kill -s CONT cinspect-node-2
        expect 0 $docker kill -s USR1 "$1"
        recipe 0 kubectl-trace
        if [ "$(echo "$out" | awk -F '\t' -v name="docker:$1" '$3 == name && $5 == "USR1" && $6 == "discarded" { print $2 }' | sort -u | tr '\n' ' ')" = 'node-1 node-2 ' ]; then
            return 0
        fi
        sleep 0.5
    done
    fail "$(cat "$work/here/trace.log")"
}
until_watched web
expect 0 env CIT_OPTIONS="--label $group --label app=web" tests/engines/docker run later -- sh -c 'sleep 1000; true'
until_watched later
[ -z "$(echo "$out" | cut -f 3 | grep -vx -e docker:web -e docker:later)" ] || fail "$out"
expect 0 $docker stop -t 60 cinspect-trace-node-1 cinspect-trace-node-2
for node in node-1 node-2; do
    expect 0 $docker inspect -f '{{.State.ExitCode}}' "cinspect-trace-$node"
    [ "$out" = 0 ] || fail "exit status $out"
done

begin "the pod exits on TERM"
# From the pod of the other node: a command that runs in the pod is one of its processes.
expect 0 $docker exec cinspect-node-2 cinspect --host-root /host --json doctor --exit-zero docker:cinspect-node-1
echo "$out" > "$work/lines"
holds "$work/lines" 'map(.severity) | index("problem") == null'
since=$(date +%s)
expect 0 $docker stop -t "$grace" cinspect-node-1
[ $(($(date +%s) - since)) -lt "$grace" ] || fail "it took all of the $grace s"
expect 0 $docker inspect -f '{{.State.ExitCode}}' cinspect-node-1
[ "$out" = 143 ] || fail "exit status $out"

begin "a node that does not answer is reported"
recipe 123 kubectl-all
prints "is not running"

begin "every block of the README was run"
[ "$(echo "$ran" | tr ' ' '\n' | sed '/^$/d' | sort -u)" = "$(sed -n 's/^<!-- fleet: \(.*\) -->$/\1/p' contrib/fleet/README.md | sort -u)" ] ||
    fail "they were $ran"
begin end
[ $shared = shared ] || echo "fleet: / is not a shared mount here: the pod was without its mountPropagation"
