//! The events of a copy: one type, from the threads that copy, through the pipe of their process, to the
//! command that prints them.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Error;

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
    /// The end, after which there are no more events.
    Finished(Result<CopyProgress, Error>),
}

/// The sending end. The threads of a copy share it; progress is counted here and sent now and then.
#[derive(Debug)]
pub struct EventSender(Mutex<SenderState>);

#[derive(Debug)]
struct SenderState {
    pipe: File,
    progress: CopyProgress,
    sent: Instant,
}

impl EventSender {
    /// Sends through a pipe, one line of JSON an event.
    pub fn new(pipe: OwnedFd) -> Self {
        let (pipe, progress) = (pipe.into(), CopyProgress::default());
        Self(Mutex::new(SenderState { pipe, progress, sent: Instant::now() }))
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
        self.state().send(&CopyEvent::Warning(text));
    }

    /// Sends the end.
    pub fn finish(&self, outcome: Result<(), Error>) {
        let mut state = self.state();
        let progress = state.progress;
        state.send(&CopyEvent::Finished(outcome.map(|()| progress)));
    }

    fn update(&self, change: impl FnOnce(&mut CopyProgress)) {
        let mut state = self.state();
        change(&mut state.progress);
        if state.sent.elapsed() > INTERVAL {
            state.sent = Instant::now();
            let progress = CopyEvent::Progress(state.progress);
            state.send(&progress);
        }
    }

    fn state(&self) -> MutexGuard<'_, SenderState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SenderState {
    fn send(&mut self, event: &CopyEvent) {
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        // If nobody reads, this process is about to be killed.
        let _ = self.pipe.write_all(&line);
    }
}
