//! A process whose command line cannot be read: one thread reads memory that is mapped from a FUSE file
//! system which never answers, and holds the memory map's lock for reading; a second thread waits for the
//! lock to change the map, and every later reader waits behind it. The FUSE server is another process:
//! when it exits, all of them continue.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;
use nix::mount::{MsFlags, mount};

use super::{poll, ready};

const PAGE: usize = 4096;

/// Makes the command line of this process unreadable, and does not return. Calls `announce` before.
pub fn hang(announce: impl FnOnce()) -> std::io::Result<()> {
    let dir = std::env::temp_dir().join(format!("cinspect-fuse-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    mount_at(&dir)?;
    let file = File::open(dir.join("f"))?;
    // SAFETY: a fresh private mapping of one page that nothing but the kernel reads.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    announce();
    let address = page as u64;
    let (sender, tid) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(nix::unistd::gettid().as_raw());
        let memory = File::open("/proc/self/mem");
        let _ = memory.map(|memory| memory.read_at(&mut [0; 16], address));
    });
    let task = format!("/proc/self/task/{}", tid.recv().unwrap_or(0));
    poll(|| ready::sleeps_in(Path::new(&task), &[libc::SYS_pread64]));
    // SAFETY: an anonymous mapping; it only waits for the lock.
    std::thread::spawn(|| unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
    });
    loop {
        nix::unistd::pause();
    }
}

/// Makes `/etc` of this mount namespace an overlay over such a file system: reading the names of users
/// there blocks forever, and no signal interrupts it.
pub fn hang_etc() -> std::io::Result<()> {
    let dir = std::env::temp_dir().join(format!("cinspect-etc-{}", std::process::id()));
    let (lower, other) = (dir.join("lower"), dir.join("other"));
    std::fs::create_dir_all(&lower)?;
    std::fs::create_dir_all(&other)?;
    mount_at(&lower)?;
    let options = format!("lowerdir={}:{}", lower.display(), other.display());
    mount(Some("hang"), "/etc", Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}

fn mount_at(dir: &Path) -> std::io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    mount(
        Some("hang"),
        dir,
        Some("fuse.hang"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )?;
    Command::new("/proc/self/exe")
        .env("CINSPECT_HELPER", "fuse")
        .stdin(Stdio::from(device))
        .spawn()?;
    Ok(())
}

/// Serves the file system: a directory with one file `f`, reads of which never return. Opcodes are those
/// of include/uapi/linux/fuse.h; the device is standard input.
pub fn serve() -> std::io::Result<()> {
    let mut device = File::from(std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?);
    let mut request = vec![0; 1 << 17];
    loop {
        let length = device.read(&mut request)?;
        let number = |offset: usize| {
            let bytes = request.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_ne_bytes(bytes.unwrap_or_default())
        };
        let unique = request.get(8..16).map(<[u8]>::to_vec).unwrap_or_default();
        let root = number(16) == 1;
        let mut body: Vec<u8> = Vec::new();
        let mut error = 0i32;
        match number(4) {
            // INIT: version 7.31, then room for one page at a time.
            26 => {
                for word in [7u32, 31, 0, 0, 12 << 16 | 16, PAGE as u32] {
                    body.extend(word.to_ne_bytes());
                }
                body.resize(64, 0);
            }
            // LOOKUP: only `f`.
            1 if request.get(40..length) == Some(b"f\0") => {
                for long in [2u64, 0, 100, 100, 0] {
                    body.extend(long.to_ne_bytes());
                }
                body.extend(attributes(false));
            }
            // The overlay looks this up: it gets no answer.
            1 if request.get(40..length) == Some(b"passwd\0") => continue,
            1 => error = -libc::ENOENT,
            // STATFS: names of 255 bytes, in blocks of a page.
            17 => {
                body.resize(80, 0);
                for offset in [40, 48] {
                    body[offset..offset + 4].copy_from_slice(&(PAGE as u32).to_ne_bytes());
                }
                body[44..48].copy_from_slice(&255u32.to_ne_bytes());
            }
            // GETATTR
            3 => {
                for long in [100u64, 0] {
                    body.extend(long.to_ne_bytes());
                }
                body.extend(attributes(root));
            }
            // OPEN, OPENDIR
            14 | 27 => body.resize(16, 0),
            // READ, and requests without an answer: FORGET, INTERRUPT, BATCH_FORGET.
            15 | 2 | 36 | 42 => continue,
            // FLUSH, RELEASE, RELEASEDIR, ACCESS
            25 | 18 | 29 | 34 => {}
            _ => error = -libc::ENOSYS,
        }
        let mut answer = u32::try_from(16 + body.len()).unwrap_or(16).to_ne_bytes().to_vec();
        answer.extend(error.to_ne_bytes());
        answer.extend(unique);
        answer.extend(body);
        device.write_all(&answer)?;
    }
}

/// Encodes a struct fuse_attr: inode, size, blocks and times; then mode, links, owner, block size.
fn attributes(root: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for long in [if root { 1u64 } else { 2 }, if root { 0 } else { PAGE as u64 }, 0, 0, 0, 0] {
        bytes.extend(long.to_ne_bytes());
    }
    let mode: u32 = if root { 0o040_755 } else { 0o100_755 };
    for word in [0u32, 0, 0, mode, 1, 0, 0, 0, PAGE as u32, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}
