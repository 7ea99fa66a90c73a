//! Findings about processes that should be gone: zombies, an init that has exited and is still there, and
//! processes that joined the container and were left behind.

use super::Diagnosis;
use crate::analysis::container_process::ContainerProcess;
use crate::analysis::finding::{FindingCode, Severity};
use crate::analysis::wording::{counted, processes};
use crate::model::bytes::message_text;

/// A process outside of a container that is the parent of one of its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideParent {
    /// Its name.
    pub comm: Vec<u8>,
    /// Whether it adopts processes and started none in the container itself: the host's init, which has
    /// joined no PID namespace.
    pub is_reaper: bool,
}

/// The kernel function in which the init of a PID namespace waits for the rest of it
/// (kernel/pid_namespace.c).
const WAITS_FOR_NAMESPACE: &str = "zap_pid_ns_processes";

impl Diagnosis<'_> {
    /// Whether the init has exited, or is about to.
    pub(super) fn is_exiting(&self) -> bool {
        self.init.is_some_and(|init| self.input.processes[init].facts.stat.is_exiting())
    }

    /// Adds a finding if the init has exited and left processes behind, which its engine may not have a record of.
    pub(super) fn init_exited(&mut self) {
        let container = self.input.container;
        let Some(init) = container.init.filter(|_| container.has_lost_init) else { return };
        let count = self.input.processes.len();
        let processes = processes(count);
        let message = format!(
            "the main process (host PID {}) has exited, and {processes} of its cgroup keep running",
            init.pid
        );
        let remedy = format!("{} signals them all", self.remedies.command("stop"));
        self.add_for_container(Severity::Problem, FindingCode::InitExited, message, &remedy);
    }

    /// Adds a finding if the init has exited and is still there. Returns whether it has.
    pub(super) fn exiting(&mut self) -> bool {
        let Some(init) = self.init.filter(|_| self.is_exiting()) else { return false };
        let (process, main) = (&self.input.processes[init], self.main);
        let (message, remedy) = match self.blocking_exit(init) {
            _ if process.facts.stat.has_exited() => (
                format!("it has exited, and its parent {} has not reaped it", self.parent(process)),
                self.end_parent(process),
            ),
            Some(other) if other.facts.stat.has_exited() => (
                format!(
                    "{main} has exited and waits for {}, a zombie that its parent {} does not reap",
                    zombie_name(other),
                    self.parent(other)
                ),
                self.end_parent(other),
            ),
            Some(other) => (
                format!(
                    "{main} has exited and waits for {}, which has not ended on SIGKILL",
                    other.label()
                ),
                "check the device or network file system that it is waiting for".into(),
            ),
            None => (
                format!("{main} is exiting"),
                format!("{} shows whether it is still there", self.remedies.command("ps")),
            ),
        };
        self.add(Severity::Problem, FindingCode::Exiting, process, message, remedy);
        true
    }

    /// Returns the process for which the exit of the init waits: the kernel has sent SIGKILL to all others
    /// and waits until each has been reaped.
    fn blocking_exit(&self, init: usize) -> Option<&ContainerProcess> {
        if self.input.init_wchan.is_some_and(|wchan| wchan != WAITS_FOR_NAMESPACE) {
            return None;
        }
        let others = || self.input.processes.iter().enumerate().filter(|(index, _)| *index != init);
        let zombie = |process: &ContainerProcess| {
            process.facts.stat.has_exited() && process.parent.is_none()
        };
        let others_of = |test: &dyn Fn(&ContainerProcess) -> bool| {
            others().map(|(_, process)| process).find(|process| test(process))
        };
        others_of(&zombie).or_else(|| others_of(&|process| !process.facts.stat.is_exiting()))
    }

    /// Returns the parent outside of the container in words: `containerd-shim (host PID 812)`.
    fn parent(&self, process: &ContainerProcess) -> String {
        let ppid = process.facts.stat.ppid;
        let comm = self.input.outside.get(&ppid);
        let comm = comm.map(|parent| format!("{} ", message_text(&parent.comm)));
        format!("{}(host PID {ppid})", comm.unwrap_or_default())
    }

    fn end_parent(&self, process: &ContainerProcess) -> String {
        let ppid = process.facts.stat.ppid;
        format!(
            "let {} run again (`kill -CONT {ppid}` if it is stopped), or end it",
            self.parent(process)
        )
    }

    /// Adds a finding for each parent that has not reaped its children.
    pub(super) fn zombies(&mut self) {
        let input = self.input;
        let mut counts: Vec<(usize, usize)> = Vec::new();
        let zombies = input.processes.iter().filter(|process| process.facts.stat.has_exited());
        for parent in zombies.filter_map(|zombie| zombie.parent) {
            match counts.iter_mut().find(|(known, _)| *known == parent) {
                Some((_, count)) => *count += 1,
                None => counts.push((parent, 1)),
            }
        }
        // (An init that waits for one has a finding of its own.)
        if !self.is_exiting() {
            self.zombies_of_others();
        }
        for (parent, count) in counts {
            let remedy = match Some(parent) == self.init {
                true => format!(
                    "make it reap its children with wait(2); orphans that it has adopted are reaped by an init: {}",
                    self.remedies.under_init()
                ),
                false => "make it reap its children with wait(2)".into(),
            };
            self.add(
                Severity::Warning,
                FindingCode::Zombies,
                &input.processes[parent],
                format!("it leaves {}", counted(count, "zombie", "zombies")),
                remedy,
            );
        }
    }

    /// Adds a finding for each zombie whose parent is outside of the container. PID 1 cannot exit before
    /// it is reaped (`zap_pid_ns_processes`, kernel/pid_namespace.c).
    fn zombies_of_others(&mut self) {
        let input = self.input;
        for (index, zombie) in input.processes.iter().enumerate() {
            if !zombie.facts.stat.has_exited()
                || zombie.parent.is_some()
                || Some(index) == self.init
            {
                continue;
            }
            let consequence = match input.container.owns_pid_ns {
                true => format!(": {} cannot exit before that", self.main),
                false => String::new(),
            };
            let message = format!(
                "a zombie: its parent outside of the container, {}, has not reaped it{consequence}",
                self.parent(zombie)
            );
            let remedy = self.end_parent(zombie);
            self.add(Severity::Warning, FindingCode::Zombies, zombie, message, remedy);
        }
    }

    /// Whether a process joined the container, and the process that started it has exited. A shim or a
    /// monitor that is the parent does not show that.
    pub(super) fn is_left_behind(&self, index: usize) -> bool {
        let process = &self.input.processes[index];
        let parent = self.input.outside.get(&process.facts.stat.ppid);
        // (In another PID namespace a process that made itself a daemon is a child of that init, too.)
        self.input.container.owns_pid_ns
            && Some(index) != self.init
            && process.parent.is_none()
            && process.in_container
            && !process.facts.stat.has_exited()
            && parent.is_some_and(|parent| parent.is_reaper)
    }

    /// Adds a finding for each process that was left behind.
    pub(super) fn left_behind(&mut self) {
        let input = self.input;
        for (index, process) in input.processes.iter().enumerate() {
            if !self.is_left_behind(index) {
                continue;
            }
            let message = format!(
                "it joined the container (exec, nsenter), and the process that started it has exited: it is a child of {} now",
                self.parent(process)
            );
            let remedy = format!("{} ends it, if it is not needed", self.end_tree(process));
            self.add(Severity::Info, FindingCode::LeftBehind, process, message, remedy);
        }
    }

    /// Returns the command that ends a process and its descendants.
    pub(super) fn end_tree(&self, process: &ContainerProcess) -> String {
        let Some(pid) = process.pid else { return self.signal_to(process, "TERM") };
        self.remedies.command_with("signal", &format!("TERM --tree {pid} -k 10s"))
    }
}

/// Returns a zombie in words, its name in brackets as ps(1) has it.
fn zombie_name(process: &ContainerProcess) -> String {
    let comm = message_text(&process.facts.stat.comm);
    process.pid.map_or_else(|| format!("[{comm}]"), |pid| format!("{pid} [{comm}]"))
}
