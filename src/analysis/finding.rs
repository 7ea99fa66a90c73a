//! The findings of `doctor`: how serious each is, what kind, and THE TABLE of kinds, which the manual page
//! reads. `diagnosis` decides which of them apply.

use crate::model::pid::ContainerPid;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A stop is not graceful.
    Problem,
    /// A stop may not be graceful.
    Warning,
    /// Worth knowing.
    Info,
    /// As it should be.
    Ok,
}

impl Severity {
    /// Returns its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Ok => "ok",
        }
    }
}

/// A kind of finding; its name is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingCode {
    ShellForm,
    InitWithoutHandler,
    InitIgnores,
    InitBlocks,
    StopSignal,
    DoesNotExit,
    Uncertain,
    ChildrenNotSignalled,
    SharedPidNamespace,
    Children,
    Grandchildren,
    Unknown,
    Frozen,
    Stopped,
    Traced,
    Uninterruptible,
    Blocks,
    Zombies,
    Exiting,
    InitExited,
    LeftBehind,
    GracePeriod,
    OomKills,
    CrashLoop,
    Ended,
    Restart,
    PreStopHook,
    Assumed,
    ChangedByInit,
    Ok,
}

impl FindingCode {
    /// THE TABLE: each code with its name in JSON and its meaning, in the order of the variants.
    pub const ALL: [(Self, &'static str, &'static str); 30] = [
        (
            Self::ShellForm,
            "shell-form",
            "PID 1 is a shell without a trap, and the program is its child: `CMD` in shell form.",
        ),
        (
            Self::InitWithoutHandler,
            "init-without-handler",
            "PID 1 has no handler for the stop signal, so the kernel discards it.",
        ),
        (Self::InitIgnores, "init-ignores", "PID 1 ignores the stop signal."),
        (
            Self::InitBlocks,
            "init-blocks",
            "PID 1 blocks the stop signal, and no thread is waiting for it.",
        ),
        (
            Self::StopSignal,
            "stop-signal",
            "A signal other than the stop signal stops the program, or stops it more gracefully.",
        ),
        (
            Self::DoesNotExit,
            "does-not-exit",
            "A process gets the stop signal and does not exit on it.",
        ),
        (
            Self::Uncertain,
            "uncertain",
            "Whether a process exits on the stop signal depends on a fact that cannot be seen from outside.",
        ),
        (
            Self::ChildrenNotSignalled,
            "children-not-signalled",
            "The stop signal does not reach every process; the others get SIGKILL without a signal first.",
        ),
        (
            Self::SharedPidNamespace,
            "shared-pid-namespace",
            "Another container runs in the PID namespace of this one, and is killed with it.",
        ),
        (
            Self::Children,
            "children",
            "PID 1 handles the stop signal; whether it stops its children first is not known.",
        ),
        (
            Self::Grandchildren,
            "grandchildren",
            "PID 1 forwards the stop signal to one process only; whether that stops its children first is not known.",
        ),
        (Self::Unknown, "unknown", "The effect of the stop signal on PID 1 is not known."),
        (
            Self::Frozen,
            "frozen",
            "The container is paused, or a process is in a frozen cgroup: signals take effect once it is unpaused or thawed.",
        ),
        (Self::Stopped, "stopped", "A process is stopped: signals take effect after CONT."),
        (
            Self::Traced,
            "traced",
            "A process is traced: its tracer sees a signal first, and may suppress it.",
        ),
        (
            Self::Uninterruptible,
            "uninterruptible",
            "A process is in uninterruptible sleep: signals take effect when it wakes up.",
        ),
        (
            Self::Blocks,
            "blocks",
            "A process other than PID 1 blocks the stop signal, and no thread is waiting for it.",
        ),
        (Self::Zombies, "zombies", "Processes have exited, and their parent has not reaped them."),
        (
            Self::Exiting,
            "exiting",
            "PID 1 has exited and is still there: it waits for a process of its PID namespace, or was not reaped.",
        ),
        (
            Self::InitExited,
            "init-exited",
            "The main process has exited while other processes of the container still run; it has no PID namespace of its own.",
        ),
        (
            Self::LeftBehind,
            "left-behind",
            "A process joined the container (exec, nsenter), and the process that started it has exited.",
        ),
        (
            Self::GracePeriod,
            "grace-period",
            "The grace period is 0: SIGKILL follows the stop signal at once.",
        ),
        (
            Self::OomKills,
            "oom-kills",
            "Processes of the container were killed for lack of memory since it was started.",
        ),
        (
            Self::CrashLoop,
            "crash-loop",
            "The engine has restarted the container several times, the last time less than ten minutes ago.",
        ),
        (Self::Ended, "ended", "The container is not running; the message says how it ended."),
        (Self::Restart, "restart", "The engine restarts the container when it exits."),
        (
            Self::PreStopHook,
            "pre-stop-hook",
            "The kubelet runs a hook before it sends the stop signal (`lifecycle.preStop`); `cinspect stop` does not.",
        ),
        (
            Self::Assumed,
            "assumed",
            "The stop signal or the grace period is assumed: the engine records none, or its record of it was not read.",
        ),
        (
            Self::ChangedByInit,
            "changed-by-init",
            "PID 1 has changed its own root, environment, limits or the like; `exec` and `cp` use the container's.",
        ),
        (
            Self::Ok,
            "ok",
            "Every process is known to exit without SIGKILL, and no problem or warning was found.",
        ),
    ];

    /// Returns its name in JSON.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether it says that a deciding fact about the stop is not known.
    pub fn is_doubt(self) -> bool {
        matches!(
            self,
            Self::Uncertain
                | Self::Children
                | Self::Grandchildren
                | Self::ChildrenNotSignalled
                | Self::InitBlocks
                | Self::Unknown
                | Self::PreStopHook
        )
    }
}

// Each variant has its row, in its place.
const _: () = {
    let mut index = 0;
    while index < FindingCode::ALL.len() {
        assert!(FindingCode::ALL[index].0 as usize == index);
        index += 1;
    }
    assert!(FindingCode::Ok as usize + 1 == FindingCode::ALL.len());
};

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// Its kind.
    pub code: FindingCode,
    /// The PID in the container of the process that it is about.
    pub pid: Option<ContainerPid>,
    /// The name of that process.
    pub comm: Option<Vec<u8>>,
    /// A sentence that says what was found, and why it matters.
    pub message: String,
    /// A sentence that says what to do.
    pub remedy: Option<String>,
}
