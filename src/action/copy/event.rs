//! The events of a copy: one type, from the threads that copy, through the pipe of their process, to the
//! command that prints them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::account::{Account, AccountEntry, Deviation};
use crate::sys::isolated::MessageSender;

/// The interval between two reports of progress.
const INTERVAL: Duration = Duration::from_millis(100);
/// The interval between two reports that a stream is waited for; shorter than the silence after which a
/// copy is given up.
const WAIT_INTERVAL: Duration = Duration::from_secs(3);

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

/// The result of a copy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CopyResult {
    /// How much was copied.
    pub progress: CopyProgress,
    /// Everything that is not as it was asked for.
    pub account: Account,
    /// Files that were written on the host with a setuid or setgid bit or capabilities: the first of
    /// them, and their number.
    pub privileged: Option<(Vec<u8>, u64)>,
}

/// An event of a copy.
#[derive(Debug, Serialize, Deserialize)]
pub enum CopyEvent {
    /// The progress so far.
    Progress(CopyProgress),
    /// An entry of the account, the text of which is unescaped; and whether it is the first of its kind.
    Deviation(AccountEntry, bool),
    /// A member that was not copied, while the rest is.
    Failure(Error),
}

/// The sending end. The threads of a copy share it; progress is counted here and sent now and then.
#[derive(Debug)]
pub struct EventSender {
    state: Mutex<SenderState>,
    is_waiting: AtomicBool,
}

#[derive(Debug)]
struct SenderState {
    messages: MessageSender<CopyEvent>,
    /// The result so far.
    result: CopyResult,
    sent: Instant,
}

impl EventSender {
    /// Creates the sending end.
    pub fn new(messages: MessageSender<CopyEvent>) -> Self {
        let state = SenderState { messages, result: CopyResult::default(), sent: Instant::now() };
        Self { state: Mutex::new(state), is_waiting: AtomicBool::new(false) }
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

    /// Adds an entry to the account, and sends it.
    pub fn account(&self, entry: &AccountEntry) {
        let mut state = self.state();
        let is_first = state.result.account.add(entry).unwrap_or(true);
        state.messages.send(&CopyEvent::Deviation(entry.clone(), is_first));
    }

    /// Adds a member that cannot be copied to the account, and sends its error.
    pub fn failed(&self, error: Error) {
        let mut state = self.state();
        let entry = AccountEntry::of_file(Deviation::Failed, "copy of a file", error.to_string());
        let _ = state.result.account.add(&entry);
        state.messages.send(&CopyEvent::Failure(error));
    }

    /// Counts a file on the host that is setuid or setgid or has capabilities.
    pub fn privileged(&self, path: &[u8]) {
        let mut state = self.state();
        state.result.privileged.get_or_insert_with(|| (path.to_owned(), 0)).1 += 1;
    }

    /// Runs a call that may wait for the other end of a stream: that is not a file system that hangs.
    pub fn waiting<T>(&self, call: impl FnOnce() -> T) -> T {
        self.is_waiting.store(true, Ordering::Relaxed);
        let result = call();
        self.is_waiting.store(false, Ordering::Relaxed);
        result
    }

    /// Starts a thread that reports progress as long as the copy waits for a stream. Without it (no more
    /// threads can be made) such a wait is limited as every other. The end of the process ends it.
    pub fn report_waits(self: &Arc<Self>) {
        let events = Arc::clone(self);
        let _ = std::thread::Builder::new().spawn(move || {
            loop {
                std::thread::sleep(WAIT_INTERVAL);
                if events.is_waiting.load(Ordering::Relaxed) {
                    let state = events.state();
                    state.messages.send(&CopyEvent::Progress(state.result.progress));
                }
            }
        });
    }

    /// Returns the result: how much was copied, and the account.
    pub fn result(&self) -> CopyResult {
        self.state().result.clone()
    }

    fn update(&self, change: impl FnOnce(&mut CopyProgress)) {
        let mut state = self.state();
        change(&mut state.result.progress);
        if state.sent.elapsed() > INTERVAL {
            state.sent = Instant::now();
            state.messages.send(&CopyEvent::Progress(state.result.progress));
        }
    }

    fn state(&self) -> MutexGuard<'_, SenderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
