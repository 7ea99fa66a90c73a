//! The host's tools for a container that has none: a static program, copied into a sealed file in memory and
//! run from its descriptor. Nothing is written in the container, and it gets no way to the host's file.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use super::errors::failure;
use crate::error::{Error, os_error};
use crate::model::elf::{ElfProgram, HEAD};
use crate::sys::fd::{file_type, open};
use crate::sys::self_exe::sealed_copy;

/// Programs with a shell and many applets.
const NAMES: &[&str] = &["busybox", "busybox.static", "busybox-static", "toybox"];
/// Directories that are searched after those of PATH.
const DIRECTORIES: &[&str] = &["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
/// A larger program is refused.
const MAX_PROGRAM: i64 = 1 << 30;
/// The packages that have a static one.
const INSTALL: &str = "`apt install busybox-static` (Debian, Ubuntu), `apk add busybox-static` (Alpine), \
    `dnf install busybox` (Fedora)";

/// A static program.
#[derive(Debug)]
pub struct Tools {
    /// The sealed copy.
    pub program: OwnedFd,
    /// The file that was copied.
    pub path: PathBuf,
}

impl Tools {
    /// Copies a program, or, if none is named, the first static one with applets.
    ///
    /// # Errors
    /// It is not a static program for this machine, or there is none.
    pub fn open(file: Option<&Path>) -> Result<Self, Error> {
        if let Some(path) = file {
            return Self::copy(path).map_err(|cause| {
                failure(format!("cannot use `{}` as tools", path.display()))
                    .cause(cause)
                    .hint("`file FILE` shows whether a program is static")
            });
        }
        let mut refused = None;
        for path in usual_paths() {
            match Self::copy(&path) {
                Ok(tools) => return Ok(tools),
                Err(cause) => {
                    refused.get_or_insert_with(|| format!("`{}`: {cause}", path.display()));
                }
            }
        }
        let cause = refused.unwrap_or_else(|| "no busybox in the PATH".into());
        let error = failure("no static program for `--tools` on this host").cause(cause);
        Err(error.hint(INSTALL).hint("`--tools=FILE` uses another static program"))
    }

    fn copy(path: &Path) -> Result<Self, String> {
        // Opening a FIFO or a device could block.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = open(path, flags).map_err(os_error)?;
        let stat = fstat(&file).map_err(os_error)?;
        if file_type(&stat) != SFlag::S_IFREG || stat.st_size > MAX_PROGRAM {
            return Err("it is not a program".into());
        }
        let name = path.file_name().unwrap_or_default();
        let name = CString::new(name.as_bytes()).unwrap_or_default();
        let program = sealed_copy(&name, &mut File::from(file))
            .map_err(|error| format!("it cannot be copied into memory: {}", os_error(error)))?;
        // Of the copy, which does not change any more.
        check(&program)?;
        Ok(Self { program, path: path.to_owned() })
    }

    /// Returns the command that is run if none is named: the shell of a program with applets, or itself.
    pub fn default_command(&self) -> Vec<u8> {
        let name = self.path.file_name().unwrap_or_default().as_bytes();
        let has_applets = NAMES.iter().any(|known| name.starts_with(known.as_bytes()));
        if has_applets { b"sh".to_vec() } else { name.to_vec() }
    }
}

/// Checks that a program needs nothing but a kernel of this machine.
fn check(program: &OwnedFd) -> Result<(), String> {
    let read = |file: File| -> std::io::Result<Vec<u8>> {
        let mut head = Vec::new();
        file.take(HEAD as u64).read_to_end(&mut head)?;
        Ok(head)
    };
    let mut file = File::from(program.try_clone().map_err(os_error)?);
    file.rewind().map_err(os_error)?;
    let header = ElfProgram::parse(&read(file).map_err(os_error)?);
    let header = header.ok_or("it is not an ELF program")?;
    if header.is_dynamic {
        return Err("it is dynamically linked, and the container may lack its libraries".into());
    }
    let program = File::open("/proc/self/exe").and_then(read).map_err(os_error)?;
    match ElfProgram::parse(&program) {
        Some(native) if native.machine != header.machine => {
            Err(format!("it is for {}, not for {}", header.machine_name(), native.machine_name()))
        }
        _ => Ok(()),
    }
}

fn usual_paths() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = path.as_bytes().split(|b| *b == b':').filter(|dir| dir.starts_with(b"/"));
    let directories = directories.map(|dir| PathBuf::from(OsStr::from_bytes(dir)));
    let directories: Vec<PathBuf> =
        directories.chain(DIRECTORIES.iter().map(PathBuf::from)).collect();
    let mut paths = Vec::new();
    for name in NAMES {
        for directory in &directories {
            let path = directory.join(name);
            if !paths.contains(&path) && path.exists() {
                paths.push(path);
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_static_programs_of_this_machine_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Tools::open(Some(&path)).err().and_then(|error| error.cause).unwrap_or_default()
        };
        assert!(refusal("script", b"#!/bin/sh\n").contains("not an ELF program"));
        let mut foreign = std::fs::read("/proc/self/exe").unwrap();
        foreign.truncate(HEAD);
        let program = ElfProgram::parse(&foreign).unwrap();
        if program.is_dynamic {
            assert!(refusal("dynamic", &foreign).contains("dynamically linked"));
        } else {
            foreign[18..20].copy_from_slice(&[0xfe, 0xca]);
            assert!(refusal("foreign", &foreign).contains("it is for machine"));
        }
        let directory = Tools::open(Some(dir.path())).unwrap_err();
        assert_eq!(directory.cause.unwrap(), "it is not a program");
    }
}
