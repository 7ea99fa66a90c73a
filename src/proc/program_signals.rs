//! Reads which signals Go and Node.js programs asked for, from their program file and their memory
//! (`model::program_signals`). Either can make the reader wait: a file on a file system that does not
//! answer, and memory behind one or behind userfaultfd(2). So all of it is done in a child that can be
//! left behind.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use procfs::process::Process as Handle;

use super::host::Host;
use super::read::{ReadError, read_into, stat, status};
use crate::model::pid::ProcessId;
use crate::model::process::Process;
use crate::model::program_signals::{
    AskedSignals, GoProgram, MissingStep, Source, TABLE_SIZE, handle_tree, has_go_handlers,
    has_libuv_handlers, listened,
};
use crate::model::signal::SignalSet;
use crate::model::status::Status;
use crate::sys::isolated::{self, Inherit, MessageSender};

/// Time for one process. It takes a few milliseconds, and much longer only where its file is not cached.
const TIMEOUT: Duration = Duration::from_millis(700);
/// Number of processes that do not answer after which no more are read.
const MAX_HANGS: usize = 2;
/// The entry of the auxiliary vector for the address of the program's first instruction (getauxval(3)).
const AT_ENTRY: u64 = 9;
const PAGE: u64 = 4096;

/// An answer as it comes from the child: the Go release, wanted and ignored signals.
type AskedMessage = Result<(Option<u32>, u64, u64), MissingStep>;

/// A language runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runtime {
    Go,
    Libuv,
}

impl Runtime {
    /// Returns the runtime that a process may have, as far as its handlers and its name show.
    fn of(process: &Process) -> Option<Self> {
        let (caught, ignored) = (process.status.sig_cgt, process.status.sig_ign);
        let exe = process.exe.known()?;
        let name = exe.strip_suffix(b" (deleted)").unwrap_or(exe).rsplit(|b| *b == b'/').next();
        let is_node = [&b"node"[..], b"nodejs"].into_iter().any(|known| name == Some(known));
        if process.stat.state.is_zombie() {
            None
        } else if has_go_handlers(caught, ignored) {
            Some(Self::Go)
        } else if is_node && has_libuv_handlers(caught, ignored) {
            Some(Self::Libuv)
        } else {
            None
        }
    }
}

impl Host {
    /// Adds the signals that they asked for to the processes that have a runtime where that is known.
    pub(super) fn add_program_signals<'a>(&self, processes: impl Iterator<Item = &'a mut Process>) {
        let mut hangs = 0;
        let mut rest: Vec<(&mut Process, Runtime)> = processes
            .filter_map(|process| Runtime::of(process).map(|runtime| (process, runtime)))
            .collect();
        let mut rest = rest.as_mut_slice();
        while !rest.is_empty() && hangs < MAX_HANGS {
            let ids: Vec<(ProcessId, Runtime)> =
                rest.iter().map(|(process, runtime)| (process.id, *runtime)).collect();
            let mut answers = Vec::new();
            let proc = self.proc_path("");
            let work = |sender: MessageSender<AskedMessage>| {
                ids.iter().for_each(|(id, runtime)| sender.send(&answer(&proc, *id, *runtime)));
            };
            let done = isolated::run(Inherit::Nothing, TIMEOUT, work, |a| answers.push(a));
            let answered = answers.len().min(rest.len());
            for ((process, _), answer) in rest.iter_mut().zip(answers) {
                process.asked = Some(answer.map(|(go_release, wanted, ignored)| AskedSignals {
                    go_release,
                    wanted: SignalSet(wanted),
                    ignored: SignalSet(ignored),
                }));
            }
            rest = &mut rest[answered..];
            if done.is_err() && !rest.is_empty() {
                hangs += 1;
                rest[0].0.asked = Some(Err(MissingStep::NoAnswer));
                rest = &mut rest[1..];
            }
        }
        rest.iter_mut().for_each(|(process, _)| process.asked = Some(Err(MissingStep::NoAnswer)));
    }
}

impl From<ReadError> for MissingStep {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Changed,
            ReadError::Denied => Self::Denied,
            other => Self::Unreadable(other.to_string()),
        }
    }
}

fn answer(proc: &Path, id: ProcessId, runtime: Runtime) -> AskedMessage {
    let program = OpenProgram::open(proc, id)?;
    let asked = match runtime {
        Runtime::Go => program.go(),
        Runtime::Libuv => program.libuv(),
    }?;
    program.verify()?;
    Ok((asked.go_release, asked.wanted.0, asked.ignored.0))
}

/// The files of one process. Its memory is opened between two reads of its program file, and is that of
/// one program from then on.
struct OpenProgram {
    id: ProcessId,
    handle: Handle,
    file: File,
    length: u64,
    memory: File,
    /// The address of the program's first instruction, where it is loaded.
    entry: u64,
}

impl OpenProgram {
    fn open(proc: &Path, id: ProcessId) -> Result<Self, MissingStep> {
        let handle =
            Handle::new_with_root(proc.join(id.pid.to_string())).map_err(ReadError::from)?;
        let open = |name: &str| handle.open_relative(name).map_err(ReadError::from);
        let file = open("exe")?;
        let memory = open("mem")?;
        let entry = entry(open("auxv")?)?;
        let (Ok(metadata), Ok(again)) = (file.metadata(), open("exe")?.metadata()) else {
            return Err(MissingStep::Changed);
        };
        if (metadata.dev(), metadata.ino()) != (again.dev(), again.ino()) {
            return Err(MissingStep::Changed);
        }
        if !metadata.is_file() {
            return Err(MissingStep::Format);
        }
        let program = Self { id, handle, file, length: metadata.len(), memory, entry };
        program.verify().map(|()| program)
    }

    /// Verifies that it is still the process that was meant.
    fn verify(&self) -> Result<(), MissingStep> {
        let is_same = stat(&self.handle, &mut Vec::new())?.start == self.id.start;
        if is_same { Ok(()) } else { Err(MissingStep::Changed) }
    }

    fn status(&self) -> Result<Status, MissingStep> {
        Ok(status(&self.handle, "status", &mut Vec::new())?)
    }

    /// Returns where an address is loaded, given that of the first instruction before.
    fn loaded(&self, address: u64, entry: u64) -> Result<u64, MissingStep> {
        let distance = self.entry.wrapping_sub(entry);
        if !distance.is_multiple_of(PAGE) {
            return Err(MissingStep::Changed);
        }
        Ok(address.wrapping_add(distance))
    }

    fn go(&self) -> Result<AskedSignals, MissingStep> {
        let read = |bytes: &mut [u8], offset: u64| self.file.read_exact_at(bytes, offset);
        let program = GoProgram::read(&Source::new(self.length, &read))?;
        let mut table = [0; TABLE_SIZE];
        if let Some(address) = program.table {
            let address = self.loaded(address, program.entry)?;
            self.memory.read_exact_at(&mut table, address).map_err(ReadError::from)?;
        }
        let status = self.status()?;
        AskedSignals::parse_go(program.release, &table, status.sig_cgt, status.sig_ign)
    }

    fn libuv(&self) -> Result<AskedSignals, MissingStep> {
        let read = |bytes: &mut [u8], offset: u64| self.file.read_exact_at(bytes, offset);
        let tree = handle_tree(&Source::new(self.length, &read))?;
        let root = self.loaded(tree.root, tree.entry)?;
        let memory = |bytes: &mut [u8], address: u64| self.memory.read_exact_at(bytes, address);
        listened(&memory, root, self.status()?.sig_cgt)
    }
}

fn entry(auxv: File) -> Result<u64, MissingStep> {
    let mut buffer = Vec::new();
    read_into(auxv, &mut buffer, 1 << 14)?;
    let (words, _) = buffer.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let (pairs, _) = words.as_chunks::<2>();
    let found = pairs.iter().find(|[key, _]| *key == AT_ENTRY);
    found.map(|[_, value]| *value).ok_or(MissingStep::Format)
}
