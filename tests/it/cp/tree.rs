//! A tree with everything that `cp` carries, and a description of any tree: what two copies are compared
//! by.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::support::finish;

/// Makes a tree with files of every kind in the directory `$1`: holes, hard links, unusual names and
/// modes, times with fractions, before 1970 and after 2242, extended attributes, access control lists
/// and file capabilities.
pub const MAKE: &str = r#"
set -e
mkdir "$1"; cd "$1"
mkdir -p d/empty d/e closed
printf 'text\n' >d/file; ln d/file d/e/second; ln d/file 'third name'
printf '' >nothing
head -c 300000 /dev/urandom >random
for offset in 0 1 2 3 4 5 6 8 30; do printf "data $offset" | dd of=holes bs=1M seek=$offset conv=notrunc status=none; done
truncate -s 33000000 holes; truncate -s 5000000 hole
ln -s d/file link; ln -s /nowhere/at/all dangling
ln -s "$(printf '%0200d' 0)" long-target
printf x >"$(printf '%0255d' 7)"
mkdir -p "deep/$(printf '%0120d' 1)/$(printf '%0120d' 2)"; printf deep >"deep/$(printf '%0120d' 1)/$(printf '%0120d' 2)/f"
printf n >"$(printf 'new\nline')"; printf o >"$(printf 'not\377utf8')"; printf p >'*'
ln -P link d/second-link; printf s >setuid; chown 33:44 setuid; chmod 6755 setuid
printf z >zero; chmod 0 zero; printf b >big-id; chown 3000000:3000001 big-id; chown -h 5:6 link
cp /bin/true capable; setcap cap_net_raw+ep capable
printf a >acl; chmod 640 acl; setfacl -m u:1:rw,g:5:r,m::rw acl
setfacl -d -m g:5:rwx d/e; setfacl -m u:7:rwx d/e
setfattr -n trusted.note -v hello d/file; setfattr -n trusted.bytes -v 0x000a3dff0a random
setfattr -n trusted.dir -v d d; setfattr -h -n trusted.link -v l link
touch -d '1960-01-01 UTC' old; touch -d '1960-01-01 00:00:00.25 UTC' older; touch -d '2300-01-01 00:00:00.5 UTC' far
touch -d '2001-02-03 04:05:06.789012345 UTC' random; touch -h -d '1999-09-09 09:09:09.9 UTC' link
chmod 1777 d/empty; chmod 555 closed; touch -d '1970-01-01 00:00:01.000000001 UTC' closed d/empty d/e d .
"#;

/// Prints one object a line for everything below a directory.
const DESCRIBE: &str = r#"
import os, sys, stat, json, hashlib
top = os.fsencode(sys.argv[1]); inodes = {}
def extents(fd, size):
    found, at = [], 0
    while at < size:
        try: start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError: break
        at = os.lseek(fd, start, os.SEEK_HOLE); found.append([start, at])
    return found
def show(path):
    s = os.lstat(path); name = os.fsdecode(os.path.relpath(path, top))
    o = dict(name=ascii(name), mode=oct(stat.S_IMODE(s.st_mode)), kind=stat.S_IFMT(s.st_mode), owner=[s.st_uid, s.st_gid], mtime=s.st_mtime_ns, seconds=s.st_mtime_ns // 10**9, atime=s.st_atime_ns)
    o['xattrs'] = {k: os.getxattr(path, k, follow_symlinks=False).hex() for k in sorted(os.listxattr(path, follow_symlinks=False))}
    if stat.S_ISLNK(s.st_mode): o['target'] = ascii(os.readlink(path)); o['mode'] = ''
    if not stat.S_ISDIR(s.st_mode): o['inode'] = inodes.setdefault(s.st_ino, ascii(name)); o['links'] = s.st_nlink
    if stat.S_ISREG(s.st_mode):
        fd = os.open(path, os.O_RDONLY); o['size'] = s.st_size
        o['extents'] = extents(fd, s.st_size); os.lseek(fd, 0, 0)
        h = hashlib.md5()
        while b := os.read(fd, 1 << 20): h.update(b)
        o['data'] = h.hexdigest(); os.close(fd)
    print(json.dumps(o))
    if stat.S_ISDIR(s.st_mode):
        for e in sorted(os.listdir(path)): show(os.path.join(path, e))
show(top)
"#;

/// Everything that a copy with `-a` keeps.
pub const ALL: &[&str] = &[
    "name", "kind", "mode", "owner", "mtime", "atime", "xattrs", "target", "size", "extents",
    "data", "inode", "links",
];

/// Describes a tree by these keys, a line for each file.
pub fn describe(top: &Path, keys: &[&str]) -> Result<Vec<String>, Failed> {
    let mut python = Command::new("python3");
    python.args(["-c", DESCRIBE]).arg(top);
    let line = |object: Value| {
        let values = keys.iter().filter_map(|key| Some(format!("{key} {}", object.get(key)?)));
        values.collect::<Vec<_>>().join(" ")
    };
    Ok(finish(python).expect(0)?.objects().into_iter().map(line).collect())
}

/// Fails with the lines that differ.
pub fn same_tree(got: &[String], wanted: &[String]) -> Result<(), Failed> {
    if got == wanted {
        return Ok(());
    }
    let only = |these: &[String], others: &[String]| -> String {
        these
            .iter()
            .filter(|line| !others.contains(line))
            .map(|line| format!("  {line}\n"))
            .collect()
    };
    Err(format!("got\n{}wanted\n{}", only(got, wanted), only(wanted, got)).into())
}
