//! The events of a copy: one type, from the threads that copy, through the pipe of their process, to the
//! command that prints them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sys::isolated::MessageSender;

/// The interval between two reports of progress.
const INTERVAL: Duration = Duration::from_millis(100);

/// How much has been copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyProgress {
    /// Files, symlinks and directories.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes that there are to copy, if known.
    pub total: Option<u64>,
}

/// An event of a copy.
#[derive(Debug, Serialize, Deserialize)]
pub enum CopyEvent {
    /// The progress so far.
    Progress(CopyProgress),
    /// A warning, unescaped.
    Warning(String),
}

/// The sending end. The threads of a copy share it; progress is counted here and sent now and then.
#[derive(Debug)]
pub struct EventSender(Mutex<SenderState>);

#[derive(Debug)]
struct SenderState {
    messages: MessageSender<CopyEvent>,
    progress: CopyProgress,
    sent: Instant,
}

impl EventSender {
    /// Creates the sending end.
    pub fn new(messages: MessageSender<CopyEvent>) -> Self {
        let (progress, sent) = (CopyProgress::default(), Instant::now());
        Self(Mutex::new(SenderState { messages, progress, sent }))
    }

    /// Counts files and bytes that were copied.
    pub fn add(&self, files: u64, bytes: u64) {
        self.update(|progress| {
            progress.files += files;
            progress.bytes += bytes;
        });
    }

    /// Sets the number of bytes that there are to copy.
    pub fn set_total(&self, bytes: u64) {
        self.update(|progress| progress.total = Some(bytes));
    }

    /// Sends a warning.
    pub fn warn(&self, text: String) {
        self.state().messages.send(&CopyEvent::Warning(text));
    }

    /// Returns the progress so far.
    pub fn progress(&self) -> CopyProgress {
        self.state().progress
    }

    fn update(&self, change: impl FnOnce(&mut CopyProgress)) {
        let mut state = self.state();
        change(&mut state.progress);
        if state.sent.elapsed() > INTERVAL {
            state.sent = Instant::now();
            state.messages.send(&CopyEvent::Progress(state.progress));
        }
    }

    fn state(&self) -> MutexGuard<'_, SenderState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
