//! Reads which signals Go programs asked for, from their program file and their memory (`model::go`).
//! Either can make the reader wait: a file on a file system that does not answer, and memory behind one
//! or behind userfaultfd(2). So all of it is done in a child that can be left behind.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use procfs::process::Process as Handle;

use super::host::Host;
use super::read::{ReadError, read_into, stat, status};
use crate::model::go::{GoProgram, GoSignals, GoUnknown, Source, TABLE_SIZE, has_go_handlers};
use crate::model::pid::ProcessId;
use crate::model::process::Process;
use crate::model::signal::SignalSet;
use crate::sys::isolated::{self, Inherit, MessageSender};

/// Time for one process. It takes a few milliseconds, and much longer only where its file is not cached.
const TIMEOUT: Duration = Duration::from_millis(700);
/// Number of processes that do not answer after which no more are read.
const MAX_HANGS: usize = 2;
/// Of the auxiliary vector: the address of the program's first instruction (getauxval(3)).
const AT_ENTRY: u64 = 9;
const PAGE: u64 = 4096;

/// An answer as it comes from the child: the release, wanted and ignored signals.
type GoMessage = Result<(Option<u32>, u64, u64), GoUnknown>;

impl Host {
    /// Adds the signals that they asked for to the processes that have the handlers of Go.
    pub(super) fn add_go_signals<'a>(&self, processes: impl Iterator<Item = &'a mut Process>) {
        let is_go = |process: &&mut Process| {
            has_go_handlers(process.status.sig_cgt, process.status.sig_ign)
                && !process.stat.state.is_zombie()
        };
        let mut hangs = 0;
        let mut rest: Vec<&mut Process> = processes.filter(is_go).collect();
        let mut rest = rest.as_mut_slice();
        while !rest.is_empty() && hangs < MAX_HANGS {
            let ids: Vec<ProcessId> = rest.iter().map(|process| process.id).collect();
            let mut answers = Vec::new();
            let proc = self.proc_path("");
            let work = |sender: MessageSender<GoMessage>| {
                ids.iter().for_each(|id| sender.send(&answer(&proc, *id)));
            };
            let done = isolated::run(Inherit::Nothing, TIMEOUT, work, |a| answers.push(a));
            let answered = answers.len().min(rest.len());
            for (process, answer) in rest.iter_mut().zip(answers) {
                process.go = Some(answer.map(|(release, wanted, ignored)| GoSignals {
                    release,
                    wanted: SignalSet(wanted),
                    ignored: SignalSet(ignored),
                }));
            }
            rest = &mut rest[answered..];
            if done.is_err() && !rest.is_empty() {
                hangs += 1;
                rest[0].go = Some(Err(GoUnknown::NoAnswer));
                rest = &mut rest[1..];
            }
        }
        rest.iter_mut().for_each(|process| process.go = Some(Err(GoUnknown::NoAnswer)));
    }
}

impl From<ReadError> for GoUnknown {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Changed,
            ReadError::Denied => Self::Denied,
            other => Self::Unreadable(other.to_string()),
        }
    }
}

fn answer(proc: &Path, id: ProcessId) -> GoMessage {
    let signals = read(proc, id)?;
    Ok((signals.release, signals.wanted.0, signals.ignored.0))
}

/// Reads the signals of one process. Its memory is opened between two looks at its program file, and is
/// that of one program from then on.
fn read(proc: &Path, id: ProcessId) -> Result<GoSignals, GoUnknown> {
    let handle = Handle::new_with_root(proc.join(id.pid.to_string())).map_err(ReadError::from)?;
    let open = |name: &str| handle.open_relative(name).map_err(ReadError::from);
    let file = open("exe")?;
    let memory = open("mem")?;
    let loaded_entry = entry(open("auxv")?)?;
    let again = open("exe")?;
    let mut buffer = Vec::new();
    let has_started = |buffer: &mut Vec<u8>| Ok::<_, GoUnknown>(stat(&handle, buffer)?.start);
    let (Ok(metadata), Ok(other)) = (file.metadata(), again.metadata()) else {
        return Err(GoUnknown::Changed);
    };
    let is_same = (metadata.dev(), metadata.ino()) == (other.dev(), other.ino());
    if !is_same || has_started(&mut buffer)? != id.start {
        return Err(GoUnknown::Changed);
    }
    if !metadata.is_file() {
        return Err(GoUnknown::Format);
    }
    let read_file = |bytes: &mut [u8], offset: u64| file.read_exact_at(bytes, offset);
    let program = GoProgram::read(&Source::new(metadata.len(), &read_file))?;
    let mut table = [0; TABLE_SIZE];
    if let Some(address) = program.table {
        let distance = loaded_entry.wrapping_sub(program.entry);
        if distance % PAGE != 0 {
            return Err(GoUnknown::Changed);
        }
        let address = address.wrapping_add(distance);
        memory.read_exact_at(&mut table, address).map_err(ReadError::from)?;
    }
    let status = status(&handle, "status", &mut buffer)?;
    if has_started(&mut buffer)? != id.start {
        return Err(GoUnknown::Changed);
    }
    GoSignals::parse(program.release, &table, status.sig_cgt, status.sig_ign)
}

/// Reads the address of the first instruction of the program, where it is loaded.
fn entry(auxv: File) -> Result<u64, GoUnknown> {
    let mut buffer = Vec::new();
    read_into(auxv, &mut buffer, 1 << 14)?;
    let (words, _) = buffer.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let (pairs, _) = words.as_chunks::<2>();
    let found = pairs.iter().find(|[key, _]| *key == AT_ENTRY);
    found.map(|[_, value]| *value).ok_or(GoUnknown::Format)
}
