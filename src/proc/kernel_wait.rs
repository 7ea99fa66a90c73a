//! The kernel function that a process sleeps in.

use procfs::process::Process as Handle;

use super::read::read_at_once;

/// The name of a kernel function, and frames of a stack.
const LIMIT: usize = 4 << 10;

/// Returns the kernel function that a process sleeps in, read from files of its directory: `wchan`, and where that
/// is `0` the innermost frame of `stack`, which takes CAP_SYS_ADMIN. (Before Linux 5.16 x86 found the function by
/// frame pointers, which kernels with the ORC unwinder do not have. `0` is also the answer to a caller that
/// cannot trace the process.)
pub(super) fn read(
    mut read: impl FnMut(&'static str, usize) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let known = read("wchan", LIMIT).filter(|name| !matches!(name.trim_ascii(), b"" | b"0"));
    known.or_else(|| innermost(&read("stack", LIMIT)?))
}

/// Returns the kernel function that a held process sleeps in.
pub(super) fn of_held(process: &Handle, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    read(|name, limit| {
        read_at_once(process.open_relative(name).ok()?, buffer, limit).ok()?;
        Some(buffer.clone())
    })
}

/// Returns the function of the first frame, `[<0>] NAME+0x20a/0x3f0`. (The scheduler's own are left out by the
/// kernel, in both files.)
fn innermost(stack: &[u8]) -> Option<Vec<u8>> {
    let frame = stack.split(|byte| *byte == b'\n').next()?;
    let name = frame.strip_prefix(b"[<")?.splitn(2, |byte| *byte == b' ').nth(1)?;
    let name = name.split(|byte| *byte == b'+').next()?;
    (!name.is_empty() && !name.starts_with(b"0x")).then(|| name.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_has_the_function_where_wchan_is_0() {
        let files = |wchan: &'static [u8], stack: Option<&'static [u8]>| {
            read(|name, _| match name {
                "wchan" => Some(wchan.to_vec()),
                _ => stack.map(<[u8]>::to_vec),
            })
        };
        let stack = Some(
            b"[<0>] kernel_clone+0x20a/0x3f0\n[<0>] __do_sys_clone+0x60/0x80\n[<0>] do_syscall_64+0x30/0x80\n".as_slice(),
        );
        let wanted = |name: &str| Some(name.as_bytes().to_vec());
        assert_eq!(files(b"0", stack), wanted("kernel_clone"));
        assert_eq!(files(b"", stack), wanted("kernel_clone"));
        assert_eq!(files(b"do_wait", stack), wanted("do_wait"));
        // Before Linux 4.15, and with a module.
        let old = b"[<ffffffff81096b8a>] _do_fork+0x10a/0x3a0\n".as_slice();
        assert_eq!(files(b"0", Some(old)), wanted("_do_fork"));
        let module = b"[<0>] wait_on_commit+0x1/0x2 [nfs]\n".as_slice();
        assert_eq!(files(b"0", Some(module)), wanted("wait_on_commit"));
        for none in [b"".as_slice(), b"\n", b"[<0>] \n", b"[<0>] 0xffffffffffffffff\n"] {
            assert_eq!(files(b"0", Some(none)), None);
        }
        assert_eq!(files(b"0", None), None);
    }
}
