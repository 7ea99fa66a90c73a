#!/bin/bash
# A container with CAP_SYS_PTRACE inspects every new process in its PID namespace from the first instant
# on: descriptors, capabilities, environment and program (CVE-2016-9962).
. "${0%/*}/lib.sh"
command -v python3 >/dev/null || fail "no python3"
cat >"$work/watch.py" <<'EOF'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
known = {1, os.getpid()}
log = open(sys.argv[1], "w", buffering=1)
print("ready", file=log)
while True:
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        if pid in known:
            continue
        known.add(pid)
        try:
            traced = libc.ptrace(SEIZE, pid, None, None) == 0
            if traced:
                libc.ptrace(INTERRUPT, pid, None, None)
            fds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            caps = [line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("CapEff")]
            exe = os.readlink(f"/proc/{pid}/exe")
            env = "SECRET" in open(f"/proc/{pid}/environ").read()
            cwd = os.readlink(f"/proc/{pid}/cwd")
            print("seen", traced, caps[0], exe, env, cwd, *fds, sep="\t", file=log)
        except OSError:
            pass
        if traced:
            os.waitpid(pid, 0x40000000)
            libc.ptrace(DETACH, pid, None, None)
EOF
cgroup /web
busy=1
start /web unshare -mpf --mount-proc --kill-child setpriv --bounding-set=-all,+sys_ptrace,+chown,+setuid \
    python3 "$work/watch.py" "$work/log"
until grep -q ready "$work/log" 2>/dev/null; do sleep 0.1; done
init=$(child "$started")
SECRET=1 && export SECRET
exec 7</ 8</root
# Prints how often it has observed a process that had not executed the command yet: that is cinspect's.
helpers() { awk -F '\t' '$1 == "seen" && $2 == "True" && $4 !~ /true$/ { n++ } END { print n + 0 }' "$work/log"; }
for try in $(seq 3000); do
    "$CINSPECT" exec --no-cgroup "pid:$init" true </dev/null >/dev/null 2>"$work/err" || fail "$(cat "$work/err")"
    [ "$try" -lt 150 ] || [ "$(helpers)" -le 20 ] || break
done
exec 7<&- 8<&-
[ "$(helpers)" -gt 20 ] || fail "too few processes were observed: $(tail -n 3 "$work/log")"
init_caps=$(sed -n 's/^CapEff:\t//p' "/proc/$init/status")
awk -F '\t' -v init_caps="$init_caps" '
    $1 != "seen" { next }
    # (The command has its libraries open for a moment.)
    $3 != init_caps && $3 != "0000000000000000" { print "capabilities: " $0; bad = 1 }
    $5 == "True" { print "an environment: " $0; bad = 1 }
    { for (i = 7; i <= NF; i++) if ($i !~ /^(pipe:|\/dev\/null|\/dev\/pts\/|anon_inode:\[pidfd\])/ && !($4 ~ /true$/ && $i ~ /\.so(\.|$)|\/ld\.so\.cache$/)) { print "a descriptor: " $0; bad = 1 } }
    END { exit bad }' "$work/log" || fail "the container had access to these"
