//! The remedies that depend on the processes: for a shell and the commands that it runs, and for a process
//! that joined the container. Each one that can be tried is tried in tests/it/engines/remedies.

use super::{Diagnosis, has_listener, is_node, is_shell};
use crate::analysis::container_process::ContainerProcess;
use crate::model::signal::Signal;

impl Diagnosis<'_> {
    /// Returns the remedy for a shell that does not forward the signal to the command that it waits for.
    pub(super) fn for_shell(&self, shell: usize) -> String {
        let children = self.input.processes[shell].children.iter().copied();
        let children: Vec<usize> =
            children.filter(|child| self.forecast(*child).is_some()).collect();
        let kill = match self.signal {
            Signal::TERM => "kill".to_owned(),
            signal => format!("kill -{signal}"),
        };
        let mut remedy = match children[..] {
            [child] => {
                let name = self.input.processes[child].label();
                let exec = self.exec(shell, child);
                format!(
                    "{exec}; or `trap '{kill} $!; wait $!' {}`, start {name} in the background (`&`), and `wait` for it",
                    self.signal
                )
            }
            _ => format!(
                "in a trap for {}, `{kill}` the children and `wait` for them, all of them started in the background (`&`)",
                self.signal
            ),
        };
        if self.children_first_helps() {
            let command = self.remedies.command("stop --order children-first");
            remedy.push_str(&format!("; for now, {command}"));
        }
        remedy
    }

    /// Returns how to run a command in place of the shell that waits for it.
    fn exec(&self, shell: usize, child: usize) -> String {
        let process = &self.input.processes[child];
        let name = process.label();
        let verdict = self.input.predictions[child].verdict;
        // Only PID 1 needs a handler: to others the signal's default action applies (pid_namespaces(7)).
        let is_pid_1 = self.input.processes[shell].facts.status.is_namespace_init();
        let needs_init =
            is_pid_1 && (verdict.is_fatal() || would_continue_as_pid_1(process, self.signal));
        let exec = match is_pid_1 {
            true if needs_init => {
                format!("{}, and {}", self.remedies.exec_form(), self.remedies.under_init())
            }
            true => format!(
                "{}, or put `exec` before the command that starts {name}",
                self.remedies.exec_form()
            ),
            false => format!("put `exec` before the command that starts {name}"),
        };
        match verdict.is_fatal() || verdict.is_received() {
            true => exec,
            false => format!("make {name} exit on {}; then {exec}", self.signal),
        }
    }

    /// Returns the command that sends a signal to a process, and to its descendants where it is a tree.
    pub(super) fn signal_to(&self, process: &ContainerProcess, signal: &str) -> String {
        let arguments = match process.pid {
            Some(pid) => format!("signal --pid {pid}"),
            None => format!("signal --host-pid {}", process.facts.id.pid),
        };
        self.remedies.command_with(&arguments, signal)
    }

    /// Returns how to check a fact that cannot be seen from outside.
    pub(super) fn find_out(&self) -> String {
        format!(
            "to check, stop it once: {} reports which processes exit and which are killed",
            self.remedies.command("stop")
        )
    }
}

/// Whether a program that handles the signal would keep running as PID 1.
fn would_continue_as_pid_1(process: &ContainerProcess, signal: Signal) -> bool {
    is_shell(process) || (is_node(process) && !has_listener(process, signal))
}
