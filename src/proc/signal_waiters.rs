//! What takes the signals of a process: the system call that each thread sleeps in, the set of
//! signals it waits for there, read from its memory, and the process's signalfds. Reading a strange
//! process's memory can be made to hang: this is work for those who may be left behind.

use std::os::unix::fs::FileExt;

use nix::libc;
use procfs::process::Process as Handle;
use rustix::fs::{Mode, OFlags, openat, readlinkat};

use super::ReadError;
use super::host::{read_at_once, read_into};
use super::survey::{status, thread_ids};
use crate::model::signal::SignalSet;
use crate::model::signal_waiters::{
    Call, Signalfd, ThreadWaits, Waiting, Waits, epoll_targets, signalfd_set,
};
use crate::model::status::Status;
use crate::sys::kcmp;

/// rt_sigtimedwait, also as a 32-bit program calls it: on x86 and Arm 177, and 421 with 64-bit times
/// (arch/x86/entry/syscalls/syscall_32.tbl, arch/arm/tools/syscall.tbl). No native call of either
/// number sleeps.
const SIGTIMEDWAIT: [libc::c_long; 3] = [libc::SYS_rt_sigtimedwait, 177, 421];
/// A program may poll thousands of descriptors; no more of them are read.
const MAX_POLLED: u64 = 65_536;
/// Threads beyond so many are not asked one by one.
const MAX_THREADS: usize = 10_000;
const MAX_DESCRIPTORS: usize = 65_536;

/// Reads it, as far as it matters for these signals.
pub(super) fn waits(
    handle: &Handle,
    main: &Status,
    main_is_dead: bool,
    of: SignalSet,
    every_thread: bool,
    buffer: &mut Vec<u8>,
) -> Result<Waits, ReadError> {
    let mut waits = Waits::default();
    let first = if main_is_dead {
        dead(main)
    } else {
        // (Its own file is the process's: the kernel need not look the thread up.)
        thread(handle, "syscall", main.pid, main.sig_blk, of, main.ppid, buffer)?
    };
    // Whoever does not block it in the main thread takes it there.
    let blocked = main_is_dead || every_thread || !first.blocked.intersection(of).is_empty();
    waits.threads.push(first);
    waits.all_threads = main.threads <= 1;
    if !blocked {
        return Ok(waits);
    }
    if main.threads > 1 {
        for tid in thread_ids(handle)?.into_iter().filter(|tid| *tid != main.pid).take(MAX_THREADS)
        {
            let own = match status(handle, &format!("task/{tid}/status"), buffer) {
                Ok(own) => own,
                Err(ReadError::Gone) => continue,
                Err(error) => return Err(error),
            };
            let call = format!("task/{tid}/syscall");
            match thread(handle, &call, tid, own.sig_blk, of, main.ppid, buffer) {
                Ok(read) => waits.threads.push(read),
                Err(ReadError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        waits.all_threads = true;
    }
    waits.signalfds = signalfds(handle, buffer)?;
    Ok(waits)
}

fn dead(main: &Status) -> ThreadWaits {
    ThreadWaits {
        tid: main.pid,
        dead: true,
        blocked: main.sig_blk,
        awaited: SignalSet::EMPTY,
        on: Waiting::Elsewhere,
    }
}

fn thread(
    handle: &Handle,
    call: &str,
    tid: i32,
    blocked: SignalSet,
    of: SignalSet,
    parent: i32,
    buffer: &mut Vec<u8>,
) -> Result<ThreadWaits, ReadError> {
    let mut read = ThreadWaits {
        tid,
        dead: false,
        blocked,
        awaited: SignalSet::EMPTY,
        on: Waiting::Elsewhere,
    };
    read_at_once(handle.open_relative(call)?, buffer, 4096)?;
    let call = Call::parse(buffer).ok_or_else(|| ReadError::Broken("syscall".into()))?;
    match call {
        // Not in a call: in a fault, stopped, on its way somewhere.
        Call::Running | Call::None => read.on = Waiting::Anything,
        Call::In(number, arguments) if SIGTIMEDWAIT.contains(&number) => {
            let set = memory(handle, arguments[0], 8)?;
            let set = set.try_into().map(u64::from_ne_bytes).unwrap_or_default();
            read.awaited = SignalSet(set);
        }
        // What it waits for matters only where something is blocked that a signalfd could take.
        Call::In(..) if blocked.intersection(of).is_empty() => {}
        Call::In(number, arguments) => {
            read.on = descriptors(handle, number, arguments, parent, buffer);
        }
    }
    Ok(read)
}

/// Which descriptors a system call waits for.
fn descriptors(
    handle: &Handle,
    number: i64,
    arguments: [u64; 6],
    parent: i32,
    buffer: &mut Vec<u8>,
) -> Waiting {
    let [first, second, ..] = arguments;
    if [libc::SYS_read, libc::SYS_readv].contains(&number) {
        return Waiting::Descriptors(vec![first as i32]);
    }
    if is_one_of(number, POLL) {
        let bytes = memory(handle, first, second.min(MAX_POLLED) * 8);
        // struct pollfd: the descriptor, and two times 16 bits.
        return bytes.map_or(Waiting::Anything, |bytes| {
            let fds = bytes.chunks_exact(8).map(|p| i32::from_ne_bytes([p[0], p[1], p[2], p[3]]));
            Waiting::Descriptors(fds.collect())
        });
    }
    if is_one_of(number, SELECT) {
        if second == 0 {
            return Waiting::Elsewhere;
        }
        let bytes = memory(handle, second, first.min(1 << 20).div_ceil(64) * 8);
        return bytes.map_or(Waiting::Anything, |bytes| {
            let bits = (0..bytes.len() * 8).filter(|bit| bytes[bit / 8] & (1 << (bit % 8)) != 0);
            Waiting::Descriptors(bits.filter_map(|bit| i32::try_from(bit).ok()).collect())
        });
    }
    if is_one_of(number, EPOLL) {
        let info = handle.open_relative(format!("fdinfo/{}", first as i32));
        let read = info.map_err(ReadError::from).and_then(|info| read_into(info, buffer, 4 << 20));
        return match read {
            Ok(())
                if parent > 0 && kcmp::same_file(handle.pid, parent, first as i32) == Ok(true) =>
            {
                Waiting::Inherited(epoll_targets(buffer))
            }
            Ok(()) => Waiting::Descriptors(epoll_targets(buffer)),
            Err(_) => Waiting::Anything,
        };
    }
    if number == libc::SYS_io_uring_enter {
        return Waiting::Anything;
    }
    Waiting::Elsewhere
}

fn is_one_of(number: libc::c_long, calls: &[libc::c_long]) -> bool {
    calls.contains(&number)
}

#[cfg(target_arch = "x86_64")]
const POLL: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_ppoll];
#[cfg(target_arch = "x86_64")]
const SELECT: &[libc::c_long] = &[libc::SYS_select, libc::SYS_pselect6];
#[cfg(target_arch = "x86_64")]
const EPOLL: &[libc::c_long] =
    &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
// Newer machines have none but those with a mask.
#[cfg(not(target_arch = "x86_64"))]
const POLL: &[libc::c_long] = &[libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const SELECT: &[libc::c_long] = &[libc::SYS_pselect6];
#[cfg(not(target_arch = "x86_64"))]
const EPOLL: &[libc::c_long] = &[libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];

fn memory(handle: &Handle, at: u64, length: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    handle.open_relative("mem")?.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// The signalfds of a process: descriptors that lead to `anon_inode:[signalfd]`.
fn signalfds(handle: &Handle, buffer: &mut Vec<u8>) -> Result<Vec<Signalfd>, ReadError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = handle.open_relative_flags("fd", flags)?;
    let listed = openat(&dir, ".", flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::new(listed)?.take(MAX_DESCRIPTORS) {
        let entry = entry?;
        let name = entry.file_name();
        let is_one = readlinkat(&dir, name, Vec::with_capacity(64))
            .is_ok_and(|link| link.as_bytes() == b"anon_inode:[signalfd]");
        let Some(fd) = name.to_str().ok().and_then(|fd| fd.parse().ok()).filter(|_| is_one) else {
            continue;
        };
        let info = handle.open_relative(format!("fdinfo/{fd}")).map_err(ReadError::from);
        if info.and_then(|info| read_into(info, buffer, 4096)).is_ok()
            && let Some(set) = signalfd_set(buffer)
        {
            found.push(Signalfd { fd, set });
        }
    }
    Ok(found)
}
