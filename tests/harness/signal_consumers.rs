//! Processes that consume signals without a handler: in sigtimedwait(2), and through a signalfd that is
//! read, polled, selected, watched by an epoll, or not read at all.

use std::mem::{size_of, zeroed};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc;

use nix::libc;

use super::process::{number_of, sleep_forever, write_log};
use super::{poll, ready};

fn set_of(list: &str) -> libc::sigset_t {
    // SAFETY: an empty set, filled by the C library.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        for signal in list.split(',').filter_map(number_of) {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

fn mask(how: i32, set: &libc::sigset_t) {
    // SAFETY: a set that lives.
    unsafe { libc::pthread_sigmask(how, set, null_mut()) };
}

/// Blocks signals in this thread.
pub fn block(list: &str) {
    mask(libc::SIG_BLOCK, &set_of(list));
}

/// Blocks signals in this thread, and starts a second one that does not.
pub fn block_in_main_thread_only(list: &str) {
    let set = set_of(list);
    let (ready, unblocked) = mpsc::channel();
    std::thread::spawn(move || {
        mask(libc::SIG_UNBLOCK, &set);
        let _ = ready.send(());
        sleep_forever();
    });
    mask(libc::SIG_BLOCK, &set);
    let _ = unblocked.recv();
}

/// Consumes signals in this thread as `word` says, and does not return then; false for other words. Main
/// threads do it last; `other-` before the word is for a second thread.
pub fn consume(name: &str, word: &str) -> bool {
    let (behaviour, list) = word.split_once('=').unwrap_or((word, ""));
    let set = set_of(list);
    match behaviour {
        "vforks" => vfork(),
        "sigwait" => wait(name, &set, || ()),
        // Exits after the first.
        "exits-on" => wait(name, &set, || std::process::exit(0)),
        // Exits after the first, as soon as it has no child, like tini.
        "exits-after-children-on" => wait(name, &set, || {
            while nix::sys::wait::wait().is_ok() {}
            std::process::exit(0);
        }),
        "signalfd-read"
        | "signalfd-poll"
        | "signalfd-select"
        | "signalfd-epoll"
        | "signalfd-nested-epolls"
        | "signalfd-polled-epoll"
        | "signalfd-moved-epoll"
        | "signalfd-spin"
        | "signalfd-unread" => signalfd(name, &set, &behaviour[9..]),
        "signalfd-child-reads" => signalfd_of_a_child(name, &set),
        "signalfd-inherited-read" => serve(name, INHERITED.load(Ordering::Relaxed), 0, "read"),
        "signalfd-inherited-epoll" => {
            let [fd, epoll] = [&INHERITED, &INHERITED_EPOLL].map(|fd| fd.load(Ordering::Relaxed));
            serve(name, fd, epoll, "epoll");
        }
        _ => return false,
    }
    true
}

/// Starts the second thread of an `other-` word, with the signals blocked in the main thread, too, and
/// opens a signalfd that is inherited; false for other words.
pub fn prepare(name: &str, word: &str) -> bool {
    if let Some((_, list)) =
        word.strip_prefix("signalfd-inherited-").and_then(|word| word.split_once('='))
    {
        inherit(list);
        return true;
    }
    let Some(word) = word.strip_prefix("other-").map(str::to_owned) else { return false };
    let list = word.split_once('=').map_or("", |(_, list)| list).to_owned();
    if !["sigwait=", "signalfd-"].iter().any(|known| word.starts_with(known)) {
        return false;
    }
    block(&list);
    let name = name.to_owned();
    let (sender, tid) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(nix::unistd::gettid().as_raw());
        consume(&name, &word)
    });
    let tid = tid.recv().unwrap_or(0);
    poll(|| ready::thread_waits(tid));
    true
}

fn log_accepted(name: &str, signal: i32) {
    write_log(&format!("{name} accepted {signal}"));
}

fn wait(name: &str, set: &libc::sigset_t, then: impl Fn()) {
    mask(libc::SIG_BLOCK, set);
    loop {
        // SAFETY: a set that lives, and no room for details.
        let signal = unsafe { libc::sigtimedwait(set, null_mut(), std::ptr::null()) };
        if signal > 0 {
            log_accepted(name, signal);
            then();
        }
    }
}

/// Opens a signalfd, and an epoll that watches it.
fn open(set: &libc::sigset_t) -> (i32, i32) {
    mask(libc::SIG_BLOCK, set);
    // SAFETY: descriptors of this process, and memory that lives through each call.
    unsafe {
        let fd = libc::signalfd(-1, set, 0);
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event);
        (fd, epoll)
    }
}

fn signalfd(name: &str, set: &libc::sigset_t, how: &str) {
    let (fd, epoll) = open(set);
    serve(name, fd, epoll, how);
}

static INHERITED: AtomicI32 = AtomicI32::new(-1);
static INHERITED_EPOLL: AtomicI32 = AtomicI32::new(-1);

/// Opens a signalfd and goes on as the child of this process, which stays.
fn inherit(list: &str) {
    let (fd, epoll) = open(&set_of(list));
    INHERITED.store(fd, Ordering::Relaxed);
    INHERITED_EPOLL.store(epoll, Ordering::Relaxed);
    if !fork() {
        sleep_forever();
    }
}

/// Has a child read the signalfd: that consumes only the signals of the child.
fn signalfd_of_a_child(name: &str, set: &libc::sigset_t) {
    let (fd, epoll) = open(set);
    if fork() {
        serve(name, fd, epoll, "read");
    }
    sleep_forever();
}

/// Forks, and returns whether this is the child, which does not outlive its parent.
fn fork() -> bool {
    // SAFETY: there is only one thread, so the child may call anything.
    unsafe {
        let child = libc::fork() == 0;
        if child {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        child
    }
}

/// Sleeps like the parent of a vfork(2), until a child that does nothing exits. (The memory is not shared,
/// so that the child can go on in this function.)
fn vfork() {
    // SAFETY: as a fork.
    let child = unsafe {
        let flags = libc::CLONE_VFORK | libc::SIGCHLD;
        libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) == 0
    };
    if child {
        // SAFETY: numbers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    sleep_forever();
}

/// Waits for the signalfd as `how` says, and reads it.
fn serve(name: &str, fd: i32, epoll: i32, how: &str) {
    // SAFETY: descriptors of this process, and memory that lives through each call.
    unsafe {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        loop {
            match how {
                "poll" => {
                    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                    libc::poll(&mut polled, 1, -1);
                }
                "select" => {
                    let mut read: libc::fd_set = zeroed();
                    libc::FD_SET(fd, &mut read);
                    libc::select(fd + 1, &mut read, null_mut(), null_mut(), null_mut());
                }
                "epoll" => {
                    libc::epoll_wait(epoll, &mut event, 1, -1);
                }
                "nested-epolls" => {
                    let outer = libc::epoll_create1(0);
                    libc::epoll_ctl(outer, libc::EPOLL_CTL_ADD, epoll, &mut event);
                    libc::epoll_wait(outer, &mut event, 1, -1);
                }
                "polled-epoll" => {
                    let mut polled = libc::pollfd { fd: epoll, events: libc::POLLIN, revents: 0 };
                    libc::poll(&mut polled, 1, -1);
                }
                // The descriptor that was added to the epoll is closed, and the file has another one.
                "moved-epoll" => {
                    let moved = libc::dup(fd);
                    libc::close(fd);
                    libc::epoll_wait(epoll, &mut event, 1, -1);
                    return serve(name, moved, epoll, "read");
                }
                "spin" => loop {
                    std::hint::spin_loop();
                },
                "unread" => sleep_forever(),
                _ => {}
            }
            let mut info: libc::signalfd_siginfo = zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            if libc::read(fd, (&raw mut info).cast(), size) == size as isize {
                log_accepted(name, info.ssi_signo as i32);
            }
        }
    }
}
