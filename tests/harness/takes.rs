//! Processes that take signals without a handler: in sigtimedwait(2), and through a signalfd that is
//! read, polled, selected, watched by an epoll, or by nobody.

use std::mem::{size_of, zeroed};
use std::ptr::null_mut;

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
        "sigwait" => wait(name, &set, false),
        // Ends when it has got one.
        "leaves-on" => wait(name, &set, true),
        "signalfd-read" | "signalfd-poll" | "signalfd-select" | "signalfd-epoll"
        | "signalfd-nobody" => signalfd(name, &set, &what[9..]),
        _ => return false,
    }
    true
}

/// The same in another thread, the main thread blocking the signals too.
pub fn take_aside(name: &str, word: &str) -> bool {
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

fn signalfd(name: &str, set: &libc::sigset_t, how: &str) {
    mask(libc::SIG_BLOCK, set);
    // SAFETY: descriptors of our own, and memory that lives through each call.
    unsafe {
        let fd = libc::signalfd(-1, set, 0);
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event);
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
