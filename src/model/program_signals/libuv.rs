//! libuv, which Node.js runs on: the signals that a program listens for, in a tree of handles
//! (`uv__signal_tree` in libuv's src/unix/signal.c). Its address is a symbol of the program file, so that
//! it is not known for a stripped one.

use std::io;

use super::elf::Elf;
use super::source::{ReadExactAt, Source};
use super::{AskedSignals, MissingStep};
use crate::model::signal::{Signal, SignalSet};

/// Offsets in `uv_signal_t` (include/uv.h), the same in Node.js 12 to 24.
const TYPE: usize = 16;
const FLAGS: usize = 88;
const SIGNAL: usize = 104;
const LEFT: usize = 112;
const RIGHT: usize = 120;
const PARENT: usize = 128;
const HANDLE: usize = 136;
/// `UV_SIGNAL` of `uv_handle_type`, and `UV_HANDLE_ACTIVE` of the flags (src/uv-common.h).
const IS_SIGNAL: u32 = 16;
const IS_ACTIVE: u32 = 4;
/// A program has one for each listener and worker thread.
const MAX_HANDLES: usize = 4096;

/// The places in a program file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleTree {
    /// Address of the first instruction, before it is relocated.
    pub entry: u64,
    /// Address of the pointer to the root, before it is relocated.
    pub root: u64,
}

/// Whether the dispositions are those of Node.js, whose libuv ignores PIPE.
pub fn has_libuv_handlers(caught: SignalSet, ignored: SignalSet) -> bool {
    ignored.contains(Signal::PIPE) && caught.contains(Signal::USR1)
}

/// Finds the tree in a program file.
///
/// # Errors
/// [`MissingStep::NoSymbol`] if the file is stripped; others, with the step that does not fit.
pub fn handle_tree(source: &Source) -> Result<HandleTree, MissingStep> {
    let cache = Elf::cache(source);
    let elf = Elf::parse(source, &cache)?;
    let root = elf.symbol("uv__signal_tree")?.ok_or(MissingStep::NoSymbol)?;
    if !elf.is_variable(root, 8) {
        return Err(MissingStep::Code);
    }
    Ok(HandleTree { entry: elf.entry, root })
}

/// Reads the tree from memory: the signals that the program listens for. `caught` are those that it has
/// handlers for.
///
/// # Errors
/// [`MissingStep::Implausible`] if the memory is not such a tree, or not all of its signals are caught.
pub fn listened(
    memory: &ReadExactAt<'_>,
    root: u64,
    caught: SignalSet,
) -> Result<AskedSignals, MissingStep> {
    let mut pointer = [0; 8];
    let unreadable = |error: io::Error| {
        MissingStep::Unreadable(format!("cannot read its memory: {}", error.kind()))
    };
    memory(&mut pointer, root).map_err(unreadable)?;
    let mut wanted = SignalSet::EMPTY;
    let mut remaining = vec![(u64::from_le_bytes(pointer), 0)];
    let mut count = 0;
    while let Some((address, parent)) = remaining.pop() {
        if address == 0 {
            continue;
        }
        count += 1;
        let mut handle = [0; HANDLE];
        memory(&mut handle, address).map_err(|_| MissingStep::Implausible)?;
        let half = |offset: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| handle[offset + i]));
        let word = |offset| u64::from(half(offset)) | u64::from(half(offset + 4)) << 32;
        let signal = u8::try_from(half(SIGNAL)).ok().and_then(Signal::new);
        let fits = half(TYPE) == IS_SIGNAL
            && half(FLAGS) & IS_ACTIVE != 0
            && word(PARENT) == parent
            && count <= MAX_HANDLES;
        match signal.filter(|signal| fits && caught.contains(*signal)) {
            Some(signal) => wanted.insert(signal),
            None => return Err(MissingStep::Implausible),
        }
        remaining.extend([(word(LEFT), address), (word(RIGHT), address)]);
    }
    Ok(AskedSignals { go_release: None, wanted, ignored: SignalSet::EMPTY })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns memory with handles for two signals, the second to the left of the first.
    fn tree() -> Vec<u8> {
        let mut memory = vec![0; 1024];
        let mut put = |offset: usize, value: u64| {
            memory[offset..][..8].copy_from_slice(&value.to_le_bytes());
        };
        put(0, 256);
        for (handle, signal, left, parent) in [(256, 15, 512, 0), (512, 1, 0, 256)] {
            put(handle + TYPE, IS_SIGNAL.into());
            put(handle + FLAGS, IS_ACTIVE.into());
            put(handle + SIGNAL, signal);
            put(handle + LEFT, left);
            put(handle + PARENT, parent);
        }
        memory
    }

    fn read(memory: &[u8], caught: u64) -> Result<AskedSignals, MissingStep> {
        let read_at = |buffer: &mut [u8], offset: u64| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let piece = memory.get(start..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        listened(&read_at, 0, SignalSet(caught))
    }

    #[test]
    fn reads_the_signals_of_the_handles() {
        let found = read(&tree(), 0x4203).map(|found| found.wanted.names());
        assert_eq!(found, Ok(vec!["HUP".to_owned(), "TERM".to_owned()]));
        assert_eq!(read(&[0; 64], 0).map(|found| found.wanted), Ok(SignalSet::EMPTY));
    }

    #[test]
    fn a_tree_that_does_not_fit_is_not_used() {
        for (offset, value) in [
            (TYPE, 12),
            (FLAGS, 0),
            (SIGNAL, 70),
            (SIGNAL, 2),
            (PARENT, 1),
            (LEFT, 256),
            (RIGHT, 9),
        ] {
            let mut memory = tree();
            memory[256 + offset..][..8].copy_from_slice(&(value as u64).to_le_bytes());
            assert_eq!(read(&memory, 0x4201), Err(MissingStep::Implausible), "{offset}");
        }
        assert_eq!(read(&tree(), 0x4200), Err(MissingStep::Implausible), "not caught");
    }

    proptest::proptest! {
        #[test]
        fn any_memory_is_safe(index in 0usize..1016, bytes: [u8; 8]) {
            let mut memory = tree();
            memory[index..][..8].copy_from_slice(&bytes);
            let _ = read(&memory, u64::MAX);
        }
    }
}
