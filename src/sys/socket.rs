//! Messages over a socket pair with a descriptor attached, unix(7). Received descriptors are owned and
//! close-on-exec.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// Returns the two ends of a connection that keeps the limits between messages.
///
/// # Errors
/// EMFILE and ENFILE at a limit of descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one message, with a descriptor if one is given.
///
/// # Errors
/// As sendmsg(2): EPIPE when the other end is closed, EMSGSIZE.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let socket = socket.as_fd().as_raw_fd();
    sendmsg::<()>(socket, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives one message of at most `limit` bytes, and the descriptor that came with it. An empty message
/// means that the other end is closed.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(socket: impl AsFd, limit: usize) -> Result<(Vec<u8>, Option<OwnedFd>), Errno> {
    let mut bytes = vec![0; limit];
    let mut control = cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let socket = socket.as_fd().as_raw_fd();
    let message =
        recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just opened it for this process; nothing else owns it.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let length = message.bytes;
    bytes.truncate(length);
    Ok((bytes, received))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (left, right) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"in the file").unwrap();
        send(&left, b"one", None).unwrap();
        send(&left, b"two", Some(file.as_fd())).unwrap();
        drop(left);
        let (bytes, fd) = receive(&right, 100).unwrap();
        assert_eq!((bytes.as_slice(), fd.is_none()), (&b"one"[..], true));
        let (bytes, fd) = receive(&right, 100).unwrap();
        assert_eq!(bytes, b"two");
        let (mut received, mut text) = (std::fs::File::from(fd.unwrap()), String::new());
        received.rewind().unwrap();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "in the file");
        assert_eq!(receive(&right, 100).unwrap().0, b"");
    }
}
