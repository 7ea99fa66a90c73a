//! Trees that a generator makes from a number, copied by `cp` and by GNU tar, which has to agree: links, hard
//! links, holes, every permission bit, owners, times, extended attributes, access control lists, capabilities,
//! unusual names, deep paths; FIFOs, sockets and devices, which are left out with a warning.

use super::tree::{ALL, describe, same_tree};
use super::*;
use crate::support::note;

/// Trees in `tests/run`, and at length.
const TREES: usize = 2;
const MANY_TREES: usize = 150;

/// Makes the tree of a number in an empty directory, and prints the names that no copy has.
const GENERATE: &str = r#"
import os, random, socket, stat, struct, sys
top, rng = os.fsencode(sys.argv[1]), random.Random(int(sys.argv[2]))
parts = [b'a', b'B', b'0', b' ', b'.', b'..', b'\n', b'\t', b'\x1b[2J', b'\xff', b'\xc3\xa9', b'\xe2\x80\xae', b'*', b'?', b'[x]',
         b'-', b'--', b'\\', b'"', b"'", b'$', b'`', b'%', b'#', b'~', b':', b'=', b',', b'x' * 60]
def name():
    while True:
        word = b''.join(rng.choice(parts) for _ in range(rng.choice([1, 2, 3, 4, 8])))[:255]
        if word not in (b'.', b'..') and not word.startswith(b'.cinspect'): return word
directories, files, special = [top], [], []
def free():
    while True:
        path = os.path.join(rng.choice(directories), name())
        if not os.path.lexists(path) and len(path) < 3800: return path
def data():
    kind = rng.randrange(6)
    if kind == 0: return b''
    if kind == 1: return rng.randbytes(rng.choice([1, 511, 512, 513, 4095, 4096, 4097]))
    if kind == 2: return bytes(rng.choice([1, 4096, 70000]))
    if kind == 3: return rng.randbytes(rng.randrange(300000))
    return b'text\n' * rng.randrange(50)
def file(path):
    with open(path, 'wb') as out:
        if rng.random() < 0.15:
            for _ in range(rng.randrange(8)):
                out.seek(rng.randrange(2000) * 4096); out.write(rng.randbytes(rng.choice([1, 4096, 9000])))
            out.truncate(max(out.tell(), rng.randrange(10_000_000)))
        else: out.write(data())
    files.append(path)
for _ in range(rng.randrange(30, 90)):
    path, kind = free(), rng.random()
    if kind < 0.22: os.mkdir(path); directories.append(path)
    elif kind < 0.60: file(path)
    elif kind < 0.75: os.symlink(rng.choice([name(), b'/' + name(), b'../' + name(), b'.', b'/', b'y' * rng.choice([99, 100, 101, 255, 1000])]), path)
    elif kind < 0.88 and files: os.link(rng.choice(files), path, follow_symlinks=False)
    elif kind < 0.92: os.mkfifo(path); special.append(path)
    elif kind < 0.95: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)); special.append(path)
    elif kind < 0.97 and len(path) < 100:
        with socket.socket(socket.AF_UNIX) as bound: bound.bind(path)
        special.append(path)
    else: file(path)
deep = top
for _ in range(rng.choice([0, 0, 20, 40])):
    deep = os.path.join(deep, b'd' * rng.choice([1, 30, 80]))
    if len(deep) > 3500: break
    os.mkdir(deep); directories.append(deep)
everything = [os.path.join(d, e) for d in directories for e in os.listdir(d)]
everything = [path for path in everything if path not in special]
def acl(): # acl(5), version 2: the user, one more user, the group, the mask, others
    entries = [(1, 6, 0xffffffff), (2, rng.randrange(8), 1234), (4, 4, 0xffffffff), (16, rng.randrange(8), 0xffffffff), (32, rng.randrange(8), 0xffffffff)]
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)
for path in everything:
    link = os.path.islink(path)
    if rng.random() < 0.4: os.chown(path, rng.choice([0, 1, 33, 65534, 3000000]), rng.choice([0, 5, 100, 65534]), follow_symlinks=False)
    if not link and rng.random() < 0.5: os.chmod(path, rng.randrange(0o10000))
    if rng.random() < 0.2: os.setxattr(path, b'trusted.' + rng.choice([b'a', b'note', b'x.y']), rng.randbytes(rng.randrange(40)), follow_symlinks=False)
    if not link and rng.random() < 0.1: os.setxattr(path, b'system.posix_acl_access', acl())
    if os.path.isdir(path) and not link and rng.random() < 0.1: os.setxattr(path, b'system.posix_acl_default', acl())
    if os.path.isfile(path) and not link and rng.random() < 0.1: os.setxattr(path, b'security.capability', struct.pack('<IIIII', 0x02000001, 1 << rng.randrange(32), 0, 0, 0))
for path in sorted(everything, key=len, reverse=True):
    time = rng.choice([0, 1, 10**9, 1 << 31, rng.randrange(1 << 33)]) * 10**9 + rng.choice([0, 1, 999999999, rng.randrange(10**9)])
    os.utime(path, ns=(time, time), follow_symlinks=False)
os.utime(top, ns=(10**18, 10**18))
for path in special: print(ascii(os.fsdecode(os.path.relpath(path, top))))
"#;

pub fn trials() -> Vec<Trial> {
    let name = "cp::random_trees_are_copied_as_tar_copies_them";
    vec![test_with(Need::Archivers, name, random_trees)]
}

fn random_trees() -> Outcome {
    let container = fixture("init")?;
    within(&container, "mount -t tmpfs -o size=400m,noatime none /mnt")?;
    for number in 0..if crate::world::is_long() { MANY_TREES } else { TREES } {
        one(&container, number).map_err(|error| {
            Failed::from(format!("tree {number}: {}", error.message().unwrap_or_default()))
        })?;
        note("oracles", &format!("cp of random tree {number}"), "ok", "");
    }
    Ok(())
}

fn one(container: &Container, number: usize) -> Outcome {
    within(container, "cd /mnt && rm -rf t d s by_tar by_cp tar && mkdir t d s by_tar by_cp")?;
    let place = |path: &str| host_path(container, path);
    let mut generate = Command::new("python3");
    generate.args(["-c", GENERATE]).arg(place("/mnt/t")).arg(number.to_string());
    let special = finish(generate).expect(0)?.out;
    let special: Vec<String> =
        special.lines().map(|name| serde_json::json!(name).to_string()).collect();
    // (The first line is the directory itself.)
    let tree = |path: &str, keys: &[&str]| -> Result<Vec<String>, Failed> {
        let lines = describe(&place(path), keys)?.into_iter().skip(1);
        let is_copied =
            |line: &String| !special.iter().any(|name| line.starts_with(&format!("name {name} ")));
        Ok(lines.filter(is_copied).collect())
    };
    let original = tree("/mnt/t", ALL)?;
    // By directory, and by a stream of cinspect's into one of its own: everything.
    let warned =
        cp(&["-a", &ctr_path(container, "/mnt/t/."), &ctr_path(container, "/mnt/d")]).expect(0)?;
    same_tree(&tree("/mnt/d", ALL)?, &original)?;
    // (Of each kind the first is named, and the others are counted.)
    let is_told = warned.err.contains("warning: skipped");
    same((is_told, warned.err.is_empty()), (!special.is_empty(), special.is_empty()))?;
    same(describe(&place("/mnt/d"), &["name"])?.len(), original.len() + 1)?;
    shell(container, "$C cp -a $CTR:/mnt/t/. - | $C cp -a - $CTR:/mnt/s").expect(0)?;
    same_tree(&tree("/mnt/s", ALL)?, &original)?;
    // GNU tar unpacks the streams of `cp`, and `cp` unpacks those of tar as tar does. (tar reads files while it
    // unpacks hard links.)
    let gnu = "tar --quoting-style=c --warning=no-timestamp --xattrs --xattrs-include='*' --acls --sparse --numeric-owner";
    let untimed: Vec<&str> = ALL.iter().copied().filter(|key| *key != "atime").collect();
    shell(container, &format!("umask 0; $C cp -a $CTR:/mnt/t/. - | {gnu} -xpf - -C $R/mnt/by_tar"))
        .expect(0)?;
    same_tree(&tree("/mnt/by_tar", &untimed)?, &tree("/mnt/t", &untimed)?)?;
    within(container, "rm -rf /mnt/by_tar; mkdir /mnt/by_tar")?;
    let line = format!(
        "umask 0; cd $R/mnt; {gnu} --format=posix -C t -cf tar . 2>&1 && {gnu} -xpf tar -C by_tar && $C cp -a - $CTR:/mnt/by_cp <tar"
    );
    shell(container, &line).expect(0)?;
    same_tree(&tree("/mnt/by_cp", &untimed)?, &tree("/mnt/by_tar", &untimed)?)
}
