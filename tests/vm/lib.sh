# Shared by the scripts of the virtual machines: the machine's image, its boot and its shell.
# shellcheck shell=bash

die() { echo "tests/vm: $*" >&2; exit 1; }
say() { printf '== %s\n' "$*" >&2; }

vm_dir=$top/tests/vm
cache=${CINSPECT_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cinspect-vm}

# Packages of every machine, beside those that the engines' scripts name.
base_packages="linux-image-amd64 systemd-sysv udev dbus dbus-user-session libpam-systemd policykit-1 polkitd
  apparmor openssh-server kmod procps iproute2 iptables nftables ca-certificates jq strace busybox-static acl
  attr libcap2-bin python3-minimal file libarchive-tools fuse3 git util-linux uidmap slirp4netns passt perl
  tini dumb-init catatonit"

# Programs of the forecast table. Compilers and the JDK are left out: they would double the image.
programs="s6 nginx-light supervisor nodejs apache2 haproxy lighttpd php-cli php-fpm gunicorn uwsgi-core
  uwsgi-plugin-python3 redis-server memcached mosquitto postgresql cron rsyslog dnsmasq-base ruby chrony
  keepalived puma monit tinyproxy"

# Installs the tools of this machine that are missing.
install_tools() {
  local missing=() tool
  for tool in mmdebstrap:mmdebstrap qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs ssh:openssh-client; do
    command -v "${tool%%:*}" > /dev/null || missing+=("${tool#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  apt-get update -qq < /dev/null && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" < /dev/null > /dev/null || die "no ${missing[*]}"
}

# Prints the apt sources of a suite: this machine's own mirror.
sources() {
  local mirror
  mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2> /dev/null | head -n 1) || true
  mirror=${CINSPECT_VM_MIRROR:-${mirror:-http://deb.debian.org/debian}}
  echo "deb $mirror $1 main"
}

# The engines, one a line: a script here, or one of the host's that needs no other in a machine.
all_engines() {
  { ls "$vm_dir/engines"; printf '%s\n' runc cri bwrap; } | sort
}
script_of() {
  if [ -e "$vm_dir/engines/$1" ]; then echo "$vm_dir/engines/$1"; else echo "$top/tests/engines/$1"; fi
}

# Prints the packages of the machine, one a line; those that a suite does not have are left out there.
wanted_packages() {
  local engine
  { tr -s ' \n' '\n' <<< "$base_packages $programs"
    for engine in $(all_engines); do "$(script_of "$engine")" packages | tr ' ' '\n'; done
  } | sed '/^$/d' | sort -u
}

# Makes the disk image, the kernel and the initial RAM disk of a suite, unless they are in the cache.
make_image() {
  local suite=$1 dir=$cache/$1 root
  [ ! -e "$dir/disk" ] || return 0
  [ "$(id -u)" = 0 ] || die "making a machine needs root"
  say "$suite: making the machine (log: $cache/$suite.log)"
  mkdir -p "$cache"
  [ -e "$cache/key" ] || ssh-keygen -q -t ed25519 -N '' -C vm -f "$cache/key"
  wanted_packages > "$cache/packages"
  sources "$suite" > "$cache/$suite.sources"
  root=$cache/$suite.root
  rm -rf --one-file-system "$root"
  # shellcheck disable=SC2016 # mmdebstrap's hooks expand $1
  mmdebstrap --mode=root --variant=minbase --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --customize-hook="upload '$cache/packages' /tmp/packages" \
    --customize-hook="upload '$cache/key.pub' /tmp/key.pub" \
    --customize-hook="upload '$vm_dir/prepare-root' /tmp/prepare-root" \
    --customize-hook='chroot "$1" sh /tmp/prepare-root' \
    --customize-hook="mmdebstrap --mode=root --variant=minbase --aptopt='Acquire::Check-Valid-Until \"false\"' --include=systemd-sysv,dbus '$suite' \"\$1/srv/booted\" - < '$cache/$suite.sources'" \
    "$suite" "$root" - < "$cache/$suite.sources" > "$cache/$suite.log" 2>&1 || die "$suite: $(tail -n 3 "$cache/$suite.log")"
  # Otherwise each start would be a first start, with its setup.
  tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
  touch "$root/etc/.updated" "$root/var/.updated"
  mkdir -p "$dir"
  cp "$root"/boot/vmlinuz-* "$dir/kernel"
  cp "$root"/boot/initrd.img-* "$dir/initrd"
  cp "$root/etc/vm-not-in-suite" "$dir/not-in-suite"
  truncate -s 24G "$dir/disk.new"
  mkfs.ext4 -q -F -d "$root" "$dir/disk.new"
  rm -rf --one-file-system "$root"
  mv "$dir/disk.new" "$dir/disk"
}

# KVM, if it can run this kernel: nested or restricted, it may be there and fail. Probed once.
accelerator() {
  local kernel=$1
  if [ ! -e "$cache/accelerator" ]; then
    local log=$cache/probe.log
    echo tcg > "$cache/accelerator"
    if [ -w /dev/kvm ]; then
      # (A shell of its own: the message about a crash goes to its log.)
      sh -c '"$@"; exit' sh timeout 30 qemu-system-x86_64 -accel kvm -cpu host -m 512 -display none -no-reboot -serial "file:$log" \
        -kernel "$kernel" -append 'console=ttyS0 panic=-1' > "$cache/probe.err" 2>&1 || true
      # It panics for want of a root file system: it has come so far.
      if grep -q 'Kernel panic' "$log" 2> /dev/null; then echo kvm > "$cache/accelerator"; fi
    fi
  fi
  cat "$cache/accelerator"
}

# Boots a machine whose disk is thrown away afterwards. Sets `port` and `qemu`, the PID.
boot() {
  local suite=$1 append=$2 dir=$cache/$1 accel
  accel=$(accelerator "$dir/kernel")
  # Emulated, time passes by executed instructions (4 ns each): a host with much else to do makes the tests
  # slower, and no time limit in the machine shorter.
  local processor=(-cpu max -smp 1 -icount shift=2)
  patience=${CINSPECT_VM_PATIENCE:-12}
  if [ "$accel" = kvm ]; then processor=(-cpu host -smp 2) patience=2; else accel=tcg,tb-size=1024; fi
  port=$((20000 + RANDOM % 10000))
  TMPDIR=$cache nice -n 5 qemu-system-x86_64 -machine q35 -accel "$accel" "${processor[@]}" -m "${CINSPECT_VM_MEMORY:-3072}" \
    -display none -no-reboot -serial "file:$dir/console" -kernel "$dir/kernel" -initrd "$dir/initrd" \
    -append "root=/dev/vda rw console=ttyS0 tsc=reliable mitigations=off net.ifnames=0 $append" \
    -drive "file=$dir/disk,format=raw,if=virtio,snapshot=on" -device virtio-rng-pci \
    -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net \
    < /dev/null > "$dir/qemu.log" 2>&1 &
  qemu=$!
  local until=$((SECONDS + 1800))
  until in_machine true 2> /dev/null; do
    kill -0 "$qemu" 2> /dev/null || die "$suite: qemu: $(cat "$dir/qemu.log")"
    [ "$SECONDS" -lt "$until" ] || die "$suite: does not start: $(tail -n 3 "$dir/console")"
    sleep 2
  done
}

# Runs a command line in the machine, as root. All share a connection: making one takes seconds.
in_machine() {
  ssh -q -F none -i "$cache/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=30 \
    -o ServerAliveInterval=60 -o ServerAliveCountMax=10 -o ControlMaster=auto -o "ControlPath=$cache/ssh-%p" \
    -o ControlPersist=yes -p "$port" root@127.0.0.1 "$@"
}
