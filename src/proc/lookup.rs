//! Reads the facts of `model::lookup`: the environment of a process, and files below its root. The container
//! can forge all of it, and make reading it hang. So it is read in a child that can be left behind, each
//! name is opened below the one before without following a link, and each link is resolved by its text.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{FileStat, SFlag, fstat};
use procfs::process::Process as Handle;

use super::clients::ClientReader;
use super::container_fs::{ContainerPlace, ContainerRoot, LOCAL, enter_user_namespace};
use super::host::Host;
use super::read::{ReadError, read_into, stat};
use crate::model::lookup::{Lookup, LookupContent, LookupError, LookupResult};
use crate::model::pid::ProcessId;
use crate::sys::isolated::{self, Inherit, MessageSender};
use crate::sys::{fd, process_dir};

/// Time for one fact, which takes a fraction of a millisecond.
const TIMEOUT: Duration = Duration::from_millis(700);
/// Number of facts that do not come after which no more are read.
const MAX_HANGS: usize = 2;
/// A larger file is refused.
const MAX_FILE: usize = 256 << 10;
/// A larger environment is refused (ARG_MAX is 2 MiB by default).
const MAX_ENVIRONMENT: usize = 2 << 20;
/// More names in a directory are refused.
const MAX_NAMES: usize = 4096;
/// The links in one path, as the kernel has it (path_resolution(7)).
const MAX_LINKS: usize = 40;

impl Host {
    /// Reads facts, in the order of the requests. A fact that is not read in time is unreadable.
    pub fn look_up(&self, requests: &[(ProcessId, Lookup)]) -> Vec<LookupResult> {
        let mut results = Vec::new();
        let mut hangs = 0;
        while results.len() < requests.len() && hangs < MAX_HANGS {
            let rest = &requests[results.len()..];
            let proc = self.proc_path("");
            let work = |sender: MessageSender<LookupResult>| {
                let mut clients = ClientReader::default();
                for (process, lookup) in rest {
                    sender.send(&answer(&proc, *process, lookup, &mut clients));
                }
            };
            let done = isolated::run(Inherit::Nothing, TIMEOUT, work, |a| results.push(a));
            if done.is_err() && results.len() < requests.len() {
                hangs += 1;
                results.push(Err(no_answer()));
            }
        }
        results.resize(requests.len(), Err(no_answer()));
        results
    }
}

fn no_answer() -> LookupError {
    LookupError::Unreadable("its file system or memory does not respond".into())
}

impl From<ReadError> for LookupError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Unreadable("the process has exited".into()),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

fn answer(proc: &Path, id: ProcessId, lookup: &Lookup, clients: &mut ClientReader) -> LookupResult {
    let handle = Handle::new_with_root(proc.join(id.pid.to_string())).map_err(ReadError::from)?;
    let verify = || match stat(&handle, &mut Vec::new()) {
        Ok(stat) if stat.start == id.start => Ok(()),
        Ok(_) => Err(ReadError::Gone),
        Err(error) => Err(error),
    };
    verify()?;
    let content = match lookup {
        Lookup::Environment => environment(&handle)?,
        Lookup::Clients => {
            let count = clients.count(&handle)?.to_string();
            LookupContent { bytes: count.into_bytes(), changed: None, is_executable: false }
        }
        Lookup::File(_) | Lookup::Directory(_) => {
            let container = ContainerRoot::open(proc, id)?;
            match container.is_fuse() {
                false => read_place(&container, &handle, lookup)?,
                true => read_in_user_namespace(proc, id, lookup)?,
            }
        }
    };
    // The PID may have been reused while its files were opened.
    verify()?;
    Ok(content)
}

fn environment(handle: &Handle) -> Result<LookupContent, ReadError> {
    let mut bytes = Vec::new();
    read_into(handle.open_relative("environ")?, &mut bytes, MAX_ENVIRONMENT + 1)?;
    if bytes.len() > MAX_ENVIRONMENT {
        return Err(ReadError::Broken("larger than 2 MiB".into()));
    }
    Ok(LookupContent { bytes, changed: None, is_executable: false })
}

/// Reads a file or directory of a process, whose root this is.
fn read_place(container: &ContainerRoot, handle: &Handle, lookup: &Lookup) -> LookupResult {
    Ok(match lookup {
        Lookup::File(path) => file(&open(container, handle, path)?)?,
        Lookup::Directory(path) => directory(&open(container, handle, path)?)?,
        Lookup::Environment | Lookup::Clients => {
            return Err(LookupError::Unreadable("it is not a file".into()));
        }
    })
}

/// Reads a file or directory of a file system that takes a process of its user namespace: in another child,
/// which does not come back from there.
fn read_in_user_namespace(proc: &Path, id: ProcessId, lookup: &Lookup) -> LookupResult {
    let work = |_: MessageSender<()>| -> LookupResult {
        // (In our own user namespace there is nothing to join.)
        let _ = enter_user_namespace(proc, id);
        let _ = set_pdeathsig(Signal::SIGKILL);
        let handle = Handle::new_with_root(proc.join(id.pid.to_string()));
        let handle = handle.map_err(ReadError::from)?;
        read_place(&ContainerRoot::open(proc, id)?, &handle, lookup)
    };
    let read = isolated::run(Inherit::Nothing, TIMEOUT, work, |()| {});
    read.unwrap_or_else(|_| Err(no_answer()))
}

/// Opens a path of a process as a place.
fn open(container: &ContainerRoot, handle: &Handle, path: &[u8]) -> Result<OwnedFd, LookupError> {
    let start = match path.starts_with(b"/") {
        true => None,
        false => Some(process_dir::open_place(handle, "cwd").map_err(ReadError::from)?),
    };
    walk(container, start, path).map_err(|error| match error {
        ReadError::Gone => LookupError::Absent,
        other => other.into(),
    })
}

/// Walks a path from the root of a process, or from its working directory.
fn walk(
    container: &ContainerRoot,
    start: Option<OwnedFd>,
    path: &[u8],
) -> Result<OwnedFd, ReadError> {
    let broken = |why: &str| ReadError::Broken(why.into());
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
        parts.map(<[u8]>::to_vec).collect()
    };
    let mut rest: VecDeque<Vec<u8>> = parts(path).into();
    let mut is_below_root = start.is_none();
    let mut places: Vec<ContainerPlace> =
        start.map(|start| container.place(start)).into_iter().collect();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == b".." {
            places.pop();
            if places.is_empty() && !is_below_root {
                return Err(broken("`..` leads above its working directory"));
            }
            continue;
        }
        let place = places.last().unwrap_or(&container.root);
        let name = std::ffi::OsString::from_vec(name);
        let name = name.to_str().ok_or_else(|| broken("its path is not UTF-8"))?;
        let found = container.step(place, name, LOCAL, OFlag::empty())?;
        if fd::file_type(&fstat(&found.fd)?) != SFlag::S_IFLNK {
            places.push(found);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(broken("too many symbolic links"));
        }
        let target = readlinkat(&found.fd, "")?;
        if target.as_bytes().starts_with(b"/") {
            places.clear();
            is_below_root = true;
        }
        parts(target.as_bytes()).into_iter().rev().for_each(|part| rest.push_front(part));
    }
    match places.pop() {
        Some(found) => Ok(found.fd),
        None => Err(broken("it is the root directory")),
    }
}

fn file(place: &OwnedFd) -> Result<LookupContent, ReadError> {
    let seen = fstat(place)?;
    if fd::file_type(&seen) != SFlag::S_IFREG {
        return Err(ReadError::Broken("not a regular file".into()));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut bytes = Vec::new();
    read_into(fd::reopen(place, flags)?.into(), &mut bytes, MAX_FILE + 1)?;
    if bytes.len() > MAX_FILE {
        return Err(ReadError::Broken("larger than 256 KiB".into()));
    }
    let is_executable = seen.st_mode & 0o111 != 0;
    Ok(LookupContent { bytes, changed: Some(changed(&seen)), is_executable })
}

/// Returns the ctime in milliseconds since the epoch.
fn changed(seen: &FileStat) -> i64 {
    seen.st_ctime.saturating_mul(1000).saturating_add(seen.st_ctime_nsec / 1_000_000)
}

fn directory(place: &OwnedFd) -> Result<LookupContent, ReadError> {
    let seen = fstat(place)?;
    if fd::file_type(&seen) != SFlag::S_IFDIR {
        return Err(ReadError::Gone);
    }
    let mut names = Vec::new();
    let mut count = 0;
    for entry in fd::list(place)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        count += 1;
        if count > MAX_NAMES {
            return Err(ReadError::Broken("too many names".into()));
        }
        names.extend_from_slice(name);
        names.push(0);
    }
    Ok(LookupContent { bytes: names, changed: Some(changed(&seen)), is_executable: false })
}
