//! An older kernel, as far as a program can see it: system calls that fail as they did before they existed,
//! by a seccomp filter that is loaded between fork and exec.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc::{self, c_long, sock_filter};

/// A system call, or a use of one, that a kernel does not have.
#[derive(Clone, Copy, Debug)]
pub enum Missing {
    /// Every call from this number on: from 424 (Linux 5.1) they are numbered alike on all machines.
    Since(c_long),
    /// One call.
    Call(c_long),
    /// A call with this value of an argument fails with this errno.
    Argument {
        /// The call.
        call: c_long,
        /// Which argument, from 0.
        index: usize,
        /// Its value, of 32 bits.
        value: u32,
        /// The error.
        errno: i32,
    },
    /// setns(2) with a pidfd, which takes several kinds of namespaces (before Linux 5.8).
    SetnsByPidfd,
}

/// Makes a command run without these calls. It takes root: without it the filter would need
/// no_new_privs, which the program would pass on.
pub fn without(command: &mut Command, missing: &[Missing]) {
    let mut filter: Vec<sock_filter> = missing.iter().flat_map(|missing| check(*missing)).collect();
    filter.push(statement(RETURN, ALLOW));
    // SAFETY: the child calls prctl(2) alone, with memory that was prepared before the fork.
    unsafe {
        command.pre_exec(move || {
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            const FILTER: libc::c_int = 2;
            match libc::prctl(libc::PR_SET_SECCOMP, FILTER, &raw const program) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

// linux/bpf_common.h, linux/seccomp.h.
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Returns the instructions for one of them. Each begins by loading the number of the call, and the last one
/// is passed over where it does not apply.
fn check(missing: Missing) -> Vec<sock_filter> {
    let number = statement(LOAD, 0);
    // The low half of an argument in struct seccomp_data, on a little-endian machine.
    let argument = |index: usize| statement(LOAD, 16 + 8 * index as u32);
    let fail = |errno: i32| statement(RETURN, ERRNO | errno as u32);
    match missing {
        Missing::Since(first) => {
            vec![number, jump(JUMP_NOT_LESS, first as u32, 0, 1), fail(libc::ENOSYS)]
        }
        Missing::Call(call) => {
            vec![number, jump(JUMP_EQUAL, call as u32, 0, 1), fail(libc::ENOSYS)]
        }
        Missing::Argument { call, index, value, errno } => vec![
            number,
            jump(JUMP_EQUAL, call as u32, 0, 3),
            argument(index),
            jump(JUMP_EQUAL, value, 0, 1),
            fail(errno),
        ],
        // (One kind alone is asked of a namespace file as well.)
        Missing::SetnsByPidfd => vec![
            number,
            jump(JUMP_EQUAL, libc::SYS_setns as u32, 0, 4),
            argument(1),
            jump(JUMP_EQUAL, 0, 2, 0),
            jump(JUMP_EQUAL, libc::CLONE_NEWUSER as u32, 1, 0),
            fail(libc::EINVAL),
        ],
    }
}
