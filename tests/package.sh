#!/bin/sh
# Tests of the Debian package and the static program: builds both, and runs them in empty root file
# systems. Needs root, binutils busybox-static dpkg-dev file gcc jq lintian runc
# and the shells and tmux with bash-completion.
set -eu
cd "$(dirname "$0")/.."

# A private mount namespace.
if [ "${1:-}" != isolated ]; then
    [ "$(id -u)" = 0 ] || { echo "tests/package.sh: needs root" >&2; exit 77; }
    exec unshare -m -- sh "$0" isolated
fi
mount --make-rprivate /
work=$(mktemp -d)
chmod 755 "$work"
inner=''

cleanup() {
    status=$?
    set +e
    # The init of the container is not a child of this shell.
    [ -z "$inner" ] || kill -9 "$inner"
    for socket in "$work"/tmux-*; do [ ! -S "$socket" ] || tmux -S "$socket" kill-server 2> /dev/null; done
    [ ! -d "${bundle:-}" ] || runc delete --force web 2> /dev/null
    [ "$status" = 0 ] || note failed
    umount -l "$work"/*/proc "$work"/*/sys 2> /dev/null
    rm -rf --one-file-system "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

step=start
fail() {
    printf 'package: %s: %.2000s\n' "$step" "$*" >&2
    exit 1
}

# Writes a result for tests/run.
note() {
    [ -z "${CINSPECT_TEST_REPORT:-}" ] || printf 'package\t%s\t%s\t\n' "$step" "$1" >> "$CINSPECT_TEST_REPORT"
}

# Ends the current step as passed, and begins the next one.
begin() {
    [ "$step" = start ] || { note ok; echo "ok $step"; }
    step=$1
}

# Runs a command, which must exit with this status; its output is in `out`.
expect() {
    wanted=$1 status=0
    shift
    out=$("$@" 2>&1) || status=$?
    [ "$status" = "$wanted" ] || fail "$*: exit status $status, not $wanted: $out"
}

prints() {
    case $out in *"$1"*) ;; *) fail "the output lacks '$1': $out" ;; esac
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=${CARGO_TARGET_DIR:-target}

begin "cargo-deb is installed"
cache=${CINSPECT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cinspect-test}/cargo-deb
PATH=$cache/bin:$PATH
if ! command -v cargo-deb > /dev/null; then
    CARGO_TARGET_DIR=$work/cargo-deb cargo install cargo-deb --version '^3' --locked --quiet --root "$cache" ||
        fail "cargo-deb cannot be installed; is the registry reachable?"
fi

begin "the package is built"
deb=$work/cinspect.deb
cargo deb --locked --quiet --output "$deb" > "$work/log" 2>&1 || fail "$(cat "$work/log")"

begin "lintian reports no error"
expect 0 lintian --allow-root --fail-on error --tag-display-limit 0 "$deb"
[ -z "$out" ] || echo "$out"

begin "the package has all files"
mkdir "$work/x"
dpkg-deb -x "$deb" "$work/x"
# Compares a file of the package, decompressed if it ends in .gz, with a file of the repository.
same() {
    [ -f "$work/x/$1" ] || fail "no $1"
    case $1 in
        *.gz) gzip -dc "$work/x/$1" ;;
        *) cat "$work/x/$1" ;;
    esac | cmp -s - "$2" || fail "$1 is not $2"
}
share=usr/share
same usr/bin/cinspect "$target/release/cinspect"
same $share/bash-completion/completions/cinspect completions/cinspect.bash
same $share/zsh/vendor-completions/_cinspect completions/_cinspect
same $share/fish/vendor_completions.d/cinspect.fish completions/cinspect.fish
same $share/doc/cinspect/changelog.gz CHANGELOG.md
same $share/doc/cinspect/changelog.Debian.gz contrib/debian/changelog
same $share/doc/cinspect/copyright contrib/debian/copyright
same $share/lintian/overrides/cinspect contrib/debian/lintian-overrides
if [ -f "$work/x/$share/doc/cinspect/README.md" ]; then
    same $share/doc/cinspect/README.md README.md
else
    same $share/doc/cinspect/README.md.gz README.md
fi
for file in docs/*.md; do
    path=$share/doc/cinspect/$file
    [ -f "$work/x/$path" ] || path=$path.gz
    same "$path" "$file"
done
for file in contrib/fleet/*; do
    path=$share/doc/cinspect/examples/fleet/${file##*/}
    [ -f "$work/x/$path" ] || path=$path.gz
    same "$path" "$file"
done
for page in man/*.[1-8]; do
    same "$share/man/man${page##*.}/${page##*/}.gz" "$page"
done
for field in Package:cinspect Version:"$version-1" Section:admin Priority:optional; do
    [ "$(dpkg-deb -f "$deb" "${field%%:*}")" = "${field#*:}" ] || fail "its ${field%%:*} is not ${field#*:}"
done
head -n 1 contrib/debian/changelog | grep -qF "($version-1)" || fail "contrib/debian/changelog is not for $version"

# Types `p`, a tab, `w` and a tab in a shell that has only the files of the package.
begin "the package completes in bash, zsh and fish"
mkdir "$work/home"
printf 'autoload -Uz compinit; compinit -u\n' > "$work/home/.zshrc"
bundle=$work/bundle
mkdir -p "$bundle/rootfs/bin"
cp /bin/busybox "$bundle/rootfs/bin/busybox"
(cd "$bundle" && runc spec && jq '.process.terminal = false | .process.args = ["/bin/busybox", "sleep", "600"]
    | del(.process.rlimits) | .mounts |= map(select(.type != "cgroup"))' config.json > new && mv new config.json)
runc run --bundle "$bundle" --detach web < /dev/null > "$work/log" 2>&1 || fail "runc: $(cat "$work/log")"
# (A server that is ending may still take the next session.)
terminal() { tmux -S "$work/tmux-$shell" -f /dev/null "$@"; }
for shell in bash zsh fish; do
    case $shell in
        bash) start="bash --norc -i" ;;
        zsh) start="zsh -i" ;;
        fish) start="fish -i" ;;
    esac
    terminal new-session -d -x 80 -y 24 env -i HOME="$work/home" TERM=xterm LC_ALL=C.UTF-8 \
        PATH="$work/x/usr/bin:/usr/bin:/bin" XDG_DATA_DIRS="$work/x/usr/share:/usr/share" \
        FPATH="$work/x/usr/share/zsh/vendor-completions:$(zsh -c 'echo "$FPATH"')" $start
    [ "$shell" != bash ] || terminal send-keys '. /usr/share/bash-completion/bash_completion' Enter
    terminal send-keys 'echo rea''dy' Enter
    awaits() {
        for _ in $(seq 600); do
            ! terminal capture-pane -p | grep -q "$1" || return 0
            sleep 0.2
        done
        fail "$shell does not show '$1': $(terminal capture-pane -p)"
    }
    awaits '^ready'
    terminal send-keys 'cinspect p' Tab
    awaits 'cinspect ps'
    terminal send-keys 'w' Tab
    awaits 'cinspect ps web'
    terminal kill-server
done
runc delete --force web

begin "the package runs in a clean root"
root=$work/root
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64"
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/proc"
: > "$root/var/lib/dpkg/status"
# It has only the dependencies of the package, copied from this host: none, if the program is static.
names() { tr ',' '\n' | sed 's/|.*//; s/(.*//; s/:.*//; s/ //g' | sort -u; }
todo=$(dpkg-deb -f "$deb" Depends | names)
known=' '
while [ -n "$todo" ]; do
    next=''
    for package in $todo; do
        case $known in *" $package "*) continue ;; esac
        known="$known$package "
        dpkg-query -s "$package" > "$work/stanza" 2> /dev/null || fail "it depends on $package, which is not installed"
        { cat "$work/stanza"; echo; } >> "$root/var/lib/dpkg/status"
        # Directories are made as needed: /lib is a link.
        dpkg-query -L "$package" | while read -r path; do
            [ -d "$path" ] && [ ! -L "$path" ] || echo "$path"
        done | tar -c --no-recursion -T - 2> /dev/null | tar -x --keep-directory-symlink -C "$root"
        next="$next $(dpkg-query -W -f '${Depends}' "$package" | names | tr '\n' ' ')"
    done
    todo=$(echo "$next" | tr ' ' '\n' | sed '/^$/d' | sort -u)
done
expect 0 dpkg --root="$root" --install "$deb"
expect 0 chroot "$root" /usr/bin/cinspect --version
prints "cinspect $version"
mount --bind /proc "$root/proc"
expect 0 chroot "$root" /usr/bin/cinspect ls
umount "$root/proc"
expect 0 dpkg --root="$root" --purge cinspect
[ -z "$(find "$root" -name '*cinspect*' ! -path '*/log/*')" ] || fail "files remain: $(find "$root" -name '*cinspect*')"

begin "the static program is built"
static=$(contrib/static --quiet 2> "$work/log") || fail "$(cat "$work/log")"
static=${static%% *}
expect 0 file -b "$static"
case $out in *"static-pie linked"* | *"statically linked"*) ;; *) fail "$out" ;; esac
# ldd exits with 1 for a static program that is not position-independent.
out=$(ldd "$static" 2>&1) || true
case $out in *"statically linked"* | *"not a dynamic"*) ;; *) fail "$out" ;; esac

begin "the static program runs in an empty root file system"
mkdir -p "$work/empty/proc"
cp "$static" "$work/empty/cinspect"
expect 0 chroot "$work/empty" /cinspect --version
prints "cinspect $version"
unshare --pid --fork --mount-proc sleep 600 > /dev/null 2>&1 &
outer=$!
for _ in $(seq 600); do
    read -r inner _ < "/proc/$outer/task/$outer/children" || true
    [ -z "$inner" ] || break
    sleep 0.2
done
[ -n "$inner" ] || fail "unshare has no child"
mount --bind /proc "$work/empty/proc"
expect 0 chroot "$work/empty" /cinspect ls
prints "$inner"
umount "$work/empty/proc"

begin "the static program runs in a busybox container"
box=$work/box
mkdir -p "$box/bin" "$box/proc" "$box/sys" "$box/tmp"
cp /bin/busybox "$box/bin/busybox"
ln -s busybox "$box/bin/sh"
cp "$static" "$box/bin/cinspect"
mount --rbind /proc "$box/proc"
mount --rbind /sys "$box/sys"
expect 0 chroot "$box" /bin/sh -c "/bin/cinspect ps pid:$inner"
prints "sleep 600"
expect 0 chroot "$box" /bin/sh -c "/bin/cinspect signal pid:$inner CONT --dry-run"

# Without the newest system calls. 332 and 291 is statx of Linux 4.11, so that this is 4.9;
# 436 is close_range, and pidfd_open is the 434 of Linux 5.3.
${CC:-cc} -O1 -o "$work/nosys" tests/nosys.c
case $(uname -m) in x86_64) statx=332 ;; *) statx=291 ;; esac
for since in "4.9 $statx" "5.3 436"; do
    kernel=${since% *}
    begin "the static program runs on Linux $kernel"
    for program in "$static" "$target/release/cinspect"; do
        expect 0 "$work/nosys" "${since#* }" "$program" ls
        prints "$inner"
        expect 0 "$work/nosys" "${since#* }" "$program" ps "pid:$inner"
        prints "sleep 600"
        expect 0 "$work/nosys" "${since#* }" "$program" inspect "pid:$inner"
        expect 0 "$work/nosys" "${since#* }" "$program" doctor --exit-zero "pid:$inner"
        prints "no handler for TERM"
    done
done
expect 0 "$work/nosys" 436 "$static" signal "pid:$inner" CONT
expect 0 "$work/nosys" 436 "$static" exec "pid:$inner" -- true
# Without pidfd no signal is sent, and the error names the required kernel.
status=0
out=$("$work/nosys" "$statx" "$static" signal "pid:$inner" KILL 2>&1) || status=$?
[ "$status" != 0 ] || fail "a signal without pidfd: $out"
[ -d "/proc/$inner" ] || fail "a signal was sent without pidfd"
prints "5.3"
begin end
echo "package: $(wc -c < "$deb") bytes; program: $(wc -c < "$target/release/cinspect"); static: $(wc -c < "$static")"
