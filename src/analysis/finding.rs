//! The findings of `doctor`: how serious each is, what kind, and THE TABLE of kinds, which the manual page
//! reads. `diagnosis` decides which of them apply.

use crate::model::codes::codes;
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

codes! {
    /// THE TABLE of kinds of findings. Their names are stable.
    FindingCode:
    ShellForm "shell-form" "PID 1 is a shell without a trap, and the program is its child: `CMD` in shell form.";
    InitWithoutHandler "init-without-handler"
        "PID 1 has no handler for the stop signal, so the kernel discards it.";
    InitIgnores "init-ignores" "PID 1 ignores the stop signal.";
    InitBlocks "init-blocks" "PID 1 blocks the stop signal, and no thread is waiting for it.";
    StopSignal "stop-signal" "A signal other than the stop signal stops the program, or stops it more gracefully.";
    DoesNotExit "does-not-exit" "A process gets the stop signal and does not exit on it.";
    Uncertain "uncertain"
        "Whether a process exits on the stop signal depends on a fact that cannot be seen from outside.";
    ChildrenNotSignalled "children-not-signalled"
        "The stop signal does not reach every process; the others get SIGKILL without a signal first.";
    SharedPidNamespace "shared-pid-namespace"
        "Another container runs in the PID namespace of this one, and is killed with it.";
    Children "children" "PID 1 handles the stop signal; whether it stops its children first is not known.";
    Grandchildren "grandchildren"
        "PID 1 forwards the stop signal to one process only; whether that stops its children first is not known.";
    HealthCheck "health-check"
        "A process is probably a health check of the engine, by its command line: it gets SIGKILL if PID 1 exits before it has finished.";
    Unknown "unknown" "The effect of the stop signal on PID 1 is not known.";
    Frozen "frozen"
        "The container is paused, or a process is in a frozen cgroup: signals take effect once it is unpaused or thawed.";
    Stopped "stopped" "A process is stopped: it runs, and signals take effect, only after CONT.";
    Traced "traced" "A process is traced: its tracer gets a signal first, and may suppress it.";
    Uninterruptible "uninterruptible"
        "A process is in uninterruptible sleep: signals take effect when it wakes up.";
    Blocks "blocks" "A process other than PID 1 blocks the stop signal, and no thread is waiting for it.";
    Zombies "zombies" "Processes have exited, and their parent has not reaped them.";
    Exiting "exiting"
        "PID 1 has exited and is still there: it waits for a process of its PID namespace, or was not reaped.";
    InitExited "init-exited"
        "The main process has exited while other processes of the container still run; it has no PID namespace of its own.";
    LeftBehind "left-behind"
        "A process joined the container (exec, nsenter), and the process that started it has exited.";
    NoSignal "no-signal"
        "A stop by the engine has no signal to send: the recorded one is not a signal, or the engine has none. It kills at once or after a short time, or fails, as the message says.";
    GracePeriod "grace-period" "The grace period is 0: SIGKILL follows the stop signal at once.";
    OomKills "oom-kills" "Processes of the container were killed for lack of memory since it was started.";
    CrashLoop "crash-loop"
        "The engine has restarted the container several times, the last time less than ten minutes ago.";
    Unhealthy "unhealthy" "The engine's health checks of the container fail.";
    Ended "ended" "The container is not running; the message says how it ended.";
    Restart "restart" "The engine restarts the container when it exits.";
    PreStopHook "pre-stop-hook"
        "The kubelet runs a hook before it sends the stop signal (`lifecycle.preStop`); `cinspect stop` does not.";
    Assumed "assumed"
        "The stop signal or the grace period is assumed: the engine records none, or its record of it was not read.";
    ChangedByInit "changed-by-init"
        "PID 1 has changed its own root, environment, limits or the like; `exec` and `cp` use the container's.";
    Ok "ok" "Every process is known to exit without SIGKILL, and no problem or warning was found.";
}

impl FindingCode {
    /// Whether it means that a deciding fact about the stop is not known.
    pub fn is_doubt(self) -> bool {
        matches!(
            self,
            Self::Uncertain
                | Self::Children
                | Self::Grandchildren
                | Self::HealthCheck
                | Self::ChildrenNotSignalled
                | Self::InitBlocks
                | Self::NoSignal
                | Self::Unknown
                | Self::PreStopHook
        )
    }
}

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
    /// The fact, and why it matters, in a sentence.
    pub message: String,
    /// The advice, in a sentence.
    pub remedy: Option<String>,
}
