//! Processes that take signals without a handler: in sigtimedwait(2), and through a signalfd that is
//! read, polled, selected, watched by an epoll, or by nobody.

use std::mem::{size_of, zeroed};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;

use super::{number_of, write_down};

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

/// Blocks these in this thread.
pub fn block(list: &str) {
    mask(libc::SIG_BLOCK, &set_of(list));
}

/// Blocks these in this thread, and has another one that does not.
pub fn other_open(list: &str) {
    let set = set_of(list);
    std::thread::spawn(move || {
        mask(libc::SIG_UNBLOCK, &set);
        forever();
    });
    mask(libc::SIG_BLOCK, &set);
    std::thread::sleep(std::time::Duration::from_millis(50));
}

/// What the main thread does in the end, after it has said its name; or another thread, with
/// `other-` before the word. None of our words: false.
pub fn take(name: &str, word: &str) -> bool {
    let (what, list) = word.split_once('=').unwrap_or((word, ""));
    let set = set_of(list);
    match what {
        "vforks" => vfork(),
        "sigwait" => wait(name, &set, false),
        // Ends when it has got one.
        "leaves-on" => wait(name, &set, true),
        "signalfd-read" | "signalfd-poll" | "signalfd-select" | "signalfd-epoll"
        | "signalfd-nobody" => signalfd(name, &set, &what[9..]),
        "signalfd-childs" => signalfd_of_a_child(name, &set),
        "signalfd-inherited-read" => serve(name, INHERITED.load(Ordering::Relaxed), 0, "read"),
        "signalfd-inherited-epoll" => {
            let [fd, epoll] = [&INHERITED, &INHERITED_EPOLL].map(|fd| fd.load(Ordering::Relaxed));
            serve(name, fd, epoll, "epoll");
        }
        _ => return false,
    }
    true
}

/// The same in another thread, the main thread blocking the signals too.
pub fn take_aside(name: &str, word: &str) -> bool {
    if let Some(list) = word.strip_prefix("signalfd-inherited-").and_then(|w| w.split_once('=')) {
        inherit(list.1);
        return true;
    }
    let Some(word) = word.strip_prefix("other-").map(str::to_owned) else { return false };
    let list = word.split_once('=').map_or("", |(_, list)| list).to_owned();
    if !["sigwait=", "signalfd-"].iter().any(|known| word.starts_with(known)) {
        return false;
    }
    block(&list);
    let name = name.to_owned();
    std::thread::spawn(move || take(&name, &word));
    std::thread::sleep(std::time::Duration::from_millis(50));
    true
}

fn forever() -> ! {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1000));
    }
}

fn told(name: &str, signal: i32) {
    write_down(&format!("{name} accepted {signal}"));
}

fn wait(name: &str, set: &libc::sigset_t, leave: bool) {
    mask(libc::SIG_BLOCK, set);
    loop {
        // SAFETY: a set that lives, and no room for details.
        let signal = unsafe { libc::sigtimedwait(set, null_mut(), std::ptr::null()) };
        if signal > 0 {
            told(name, signal);
            if leave {
                std::process::exit(0);
            }
        }
    }
}

/// A signalfd, and an epoll that watches it.
fn open(set: &libc::sigset_t) -> (i32, i32) {
    mask(libc::SIG_BLOCK, set);
    // SAFETY: descriptors of our own, and memory that lives through each call.
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

/// Goes on as the child of a process that has opened the signalfd, and stays.
fn inherit(list: &str) {
    let (fd, epoll) = open(&set_of(list));
    INHERITED.store(fd, Ordering::Relaxed);
    INHERITED_EPOLL.store(epoll, Ordering::Relaxed);
    if !fork() {
        forever();
    }
}

/// Its child reads: that takes the child's signals alone.
fn signalfd_of_a_child(name: &str, set: &libc::sigset_t) {
    let (fd, epoll) = open(set);
    if fork() {
        serve(name, fd, epoll, "read");
    }
    forever();
}

/// Whether we are the child, which does not outlive its parent.
fn fork() -> bool {
    // SAFETY: there is but one thread, so that the child may go on as it likes.
    unsafe {
        let child = libc::fork() == 0;
        if child {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        child
    }
}

/// Sleeps as the parent of a vfork(2) does: until a child that does nothing has left. (With memory of
/// its own, or it could not go on in two places.)
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
    forever();
}

fn serve(name: &str, fd: i32, epoll: i32, how: &str) {
    // SAFETY: descriptors of our own, and memory that lives through each call.
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
                "nobody" => forever(),
                _ => {}
            }
            let mut info: libc::signalfd_siginfo = zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            if libc::read(fd, (&raw mut info).cast(), size) == size as isize {
                told(name, info.ssi_signo as i32);
            }
        }
    }
}
