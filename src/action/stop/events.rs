//! The events of a stop, as one typed stream. `output::stop_report` makes text and JSON of them.

use std::time::Duration;

use crate::action::send::SendError;
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::delivery::Prediction;
use crate::model::pid::{ContainerPid, HostPid};
use crate::model::signal::Signal;
use crate::sys::pidfd::Ending;

/// An event of a stop.
#[derive(Clone, Debug)]
pub struct StopEvent {
    /// The time since the stop began.
    pub time: Duration,
    /// The kind, with its data.
    pub kind: StopEventKind,
}

/// A process in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRef {
    /// Its PID in the container.
    pub pid: Option<ContainerPid>,
    /// Its PID on the host.
    pub host_pid: HostPid,
    /// Its name.
    pub comm: Vec<u8>,
}

impl From<&ContainerProcess> for ProcessRef {
    fn from(process: &ContainerProcess) -> Self {
        Self {
            pid: process.pid,
            host_pid: process.facts.id.pid,
            comm: process.facts.stat.comm.clone(),
        }
    }
}

/// The kind of an event, with its data.
#[derive(Clone, Debug)]
pub enum StopEventKind {
    /// A signal other than KILL was sent.
    Signalled {
        /// To this process.
        process: ProcessRef,
        /// The signal.
        signal: Signal,
        /// The effect that was predicted before it was sent.
        prediction: Prediction,
    },
    /// A signal could not be sent.
    Refused {
        /// To this process.
        process: ProcessRef,
        /// The signal; none if the process could not even be held.
        signal: Option<Signal>,
        /// The effect that it would have had, if that was predicted.
        prediction: Option<Prediction>,
        /// The reason.
        error: SendError,
    },
    /// A process exited.
    Exited {
        /// This process.
        process: ProcessRef,
        /// How, if the kernel still knew.
        ending: Option<Ending>,
    },
    /// A process got KILL.
    Killed {
        /// This process.
        process: ProcessRef,
        /// The sender of KILL.
        by: Killer,
        /// The effect that was predicted, if KILL was a step of its own.
        prediction: Option<Prediction>,
    },
    /// Processes are waited for.
    Waiting {
        /// How many are running.
        running: usize,
        /// The time until the next step.
        remaining: Option<Duration>,
    },
    /// The grace period of a step is over.
    GraceOver {
        /// How many processes are running.
        running: usize,
    },
    /// No process is running any more.
    Stopped {
        /// How many got KILL; if none and all endings are known, the stop was graceful.
        killed: usize,
        /// How many ended in a way that could not be read: they may have been killed.
        unknown: usize,
    },
    /// Processes are running although the stop is over: without KILL, or in spite of it.
    NotStopped {
        /// How many.
        running: usize,
        /// How many of them started after the init had exited, and were left alone.
        unknown: usize,
        /// How many others got SIGKILL.
        killed: usize,
    },
}

/// The sender of KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killer {
    /// The stop itself.
    Stop,
    /// The kernel, because the init of the PID namespace exited.
    Kernel {
        /// The stop signal at that time.
        stop_signal: Signal,
        /// Whether the stop had sent a signal to the process. If not, PID 1 may have forwarded one.
        was_signalled: bool,
    },
    /// Neither: the engine, which kills the cgroup of a container without a PID namespace of its own when
    /// its main process has exited; the kernel, when the init of a namespace below the container's exits, or for
    /// want of memory; or anything else.
    Other,
}

impl StopEventKind {
    /// Returns the process that it is about.
    pub fn process(&self) -> Option<&ProcessRef> {
        match self {
            Self::Signalled { process, .. }
            | Self::Refused { process, .. }
            | Self::Exited { process, .. }
            | Self::Killed { process, .. } => Some(process),
            _ => None,
        }
    }

    /// Returns the signal that was sent.
    pub fn signal(&self) -> Option<Signal> {
        match self {
            Self::Signalled { signal, .. } => Some(*signal),
            Self::Refused { signal, .. } => *signal,
            Self::Killed { .. } => Some(Signal::KILL),
            _ => None,
        }
    }

    /// Returns the effect that was predicted.
    pub fn prediction(&self) -> Option<&Prediction> {
        match self {
            Self::Signalled { prediction, .. } => Some(prediction),
            Self::Refused { prediction, .. } | Self::Killed { prediction, .. } => {
                prediction.as_ref()
            }
            _ => None,
        }
    }
}
