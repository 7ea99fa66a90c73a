# The user of rootless engines in a machine: citops, with a systemd instance that is always there.
# shellcheck shell=bash disable=SC2034
user=citops
home=/home/citops
uid=$(command id -u "$user" 2> /dev/null) || uid=0
as_citops=(setpriv --reuid "$uid" --regid "$uid" --init-groups env -i -C "$home" HOME="$home" USER="$user"
  LOGNAME="$user" PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR="/run/user/$uid"
  DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus")
as_user() { echo "$user"; }
# The first user of a login needs its instance of systemd.
wait_for_user() {
  wait_for 300 test -S "/run/user/$uid/bus" || die "no systemd of $user"
}
