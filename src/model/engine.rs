//! The plain facts about a container engine that the rest of the program reads: names, defaults and
//! texts. One descriptor an engine, in the engine's own file in `engine`; nothing is looked up here.

use std::fmt;
use std::time::Duration;

use super::signal::Signal;

/// An engine, as data. Two descriptors are equal if they have one name.
pub struct EngineInfo {
    /// Name in a qualified reference, in a table and in JSON: `docker`.
    pub name: &'static str,
    /// Name in a sentence: `Docker`.
    pub display_name: &'static str,
    /// Form of a qualified reference to one of its containers.
    pub reference: ReferenceForm,
    /// Whether it keeps records of running containers. Where it keeps none, the owner of a cgroup
    /// has to confirm the name that the cgroup carries.
    pub keeps_records: bool,
    /// Whether it records for each container how it last ended, and whether it runs.
    pub records_ends: bool,
    /// Whether other engines run their containers through it and then name them.
    pub low_level: bool,
    /// Engines whose records have the start times that its own records lack.
    pub start_times_from: &'static [&'static EngineInfo],
    /// Engines that make cgroups of the same names.
    pub same_cgroups: &'static [&'static EngineInfo],
    /// Engines whose containers in pods its qualified references find, too: Kubernetes runs them through a
    /// CRI service that keeps no records.
    pub pods_of: &'static [&'static EngineInfo],
    /// Names (`comm`, at most 15 bytes) of the daemons, shims and monitors whose arguments lead to
    /// its records. A `*` at the end matches any rest.
    pub shims: &'static [&'static str],
    /// Names (`comm`) of an init that has not executed the program of the container yet.
    pub starters: &'static [&'static str],
    /// Whether these are monitors: the parents of inits that no record may name.
    pub has_monitors: bool,
    /// Its files, and their description for the manual page.
    pub files: (&'static str, &'static str),
    /// File names of the sockets through which it takes commands.
    pub sockets: &'static [&'static str],
    /// Stop signal of a container for which none is configured.
    pub stop_signal: Signal,
    /// Advice on how to change a container so that its stop becomes graceful.
    pub advice: &'static EngineAdvice,
    /// Capabilities of a container for which none are configured (a mask, as `CapEff`); 0 if not known.
    pub default_capabilities: u64,
    /// Time between the stop signal and KILL if none is configured.
    pub grace_time: Duration,
    /// The reason why a container runs again after it was stopped by anything but its engine, where
    /// that does not depend on a restart policy in the engine's records.
    pub always_restarts: Option<&'static str>,
    /// Advice on how to keep a container stopped.
    pub keep_stopped: &'static str,
    /// Remark on a signal that may end a container which the engine then starts again.
    pub signal_remark: Option<&'static str>,
    /// The exit status that it records for a container that ended while it was not running itself.
    pub lost_status: Option<i32>,
    /// Where the output of a container goes if its engine records no log; with `<name>` for its name.
    pub output_hint: &'static str,
    /// Advice on a container that is not running, with `<name>`, `<id>` and `<namespace>` for those.
    pub start_hint: Option<&'static str>,
    /// Commands that call its client. The first one is in advice.
    pub clients: &'static [&'static str],
    /// The subcommands of its client for things that this program leaves to the engine.
    pub commands: EngineCommands,
}

/// The subcommands of an engine's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineCommands {
    /// They have the words that are typed from habit: `restart`, `rm`, `images`.
    AsTyped,
    /// A command for each of these words, with `<name>`, `<id>` and `<namespace>` for those.
    Table(&'static [(&'static str, &'static str)]),
}

/// Advice on how to change a container, in the words of the engine's own files and options.
#[derive(Debug, PartialEq, Eq)]
pub struct EngineAdvice {
    /// How to start the program itself instead of a shell, as an instruction.
    pub exec_form: &'static str,
    /// How to run it under an init, as a list of settings.
    pub init: &'static str,
    /// How to configure another stop signal, with `SIGNAL_NAME` for it; none if it has no such setting.
    pub stop_signal: Option<&'static str>,
    /// How to configure another grace period; none if it has no such setting.
    pub grace: Option<&'static str>,
    /// The command that unpauses a container, with `<name>`, `<id>` and `<namespace>` for those; none if the
    /// engine has none.
    pub unpause: Option<&'static str>,
}

impl EngineAdvice {
    /// The advice where no engine's files or options are known.
    pub const DEFAULT: Self = Self {
        exec_form: "start the program itself instead of a shell",
        init: "tini, dumb-init",
        stop_signal: None,
        grace: None,
        unpause: None,
    };
}

/// Form of a qualified reference: the part after the engine's name and a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceForm {
    /// The container's name, or its ID.
    Name,
    /// `NAMESPACE/NAME`.
    Namespaced,
    /// `POD_NAMESPACE/POD/CONTAINER`.
    Pod,
    /// None: its containers have no name, and `pid:N` refers to them.
    Pid,
}

impl EngineInfo {
    /// The values that most engines share.
    pub const DEFAULT: Self = Self {
        name: "",
        display_name: "",
        reference: ReferenceForm::Name,
        keeps_records: true,
        records_ends: false,
        low_level: false,
        start_times_from: &[],
        same_cgroups: &[],
        pods_of: &[],
        shims: &[],
        starters: &[],
        has_monitors: false,
        files: ("", ""),
        sockets: &[],
        stop_signal: Signal::TERM,
        advice: &EngineAdvice::DEFAULT,
        default_capabilities: 0,
        grace_time: Duration::from_secs(10),
        always_restarts: None,
        keep_stopped: "stop it with its engine to keep it stopped",
        signal_remark: None,
        lost_status: None,
        output_hint: "its output goes where its engine's client was started",
        start_hint: None,
        clients: &[],
        commands: EngineCommands::Table(&[]),
    };

    /// Whether its containers have names, so that `ENGINE:NAME` refers to one.
    pub fn names_containers(&self) -> bool {
        self.reference != ReferenceForm::Pid
    }

    /// Whether its records alone show which of its containers run: no other engine's record could
    /// name the same processes first.
    pub fn has_complete_records(&self) -> bool {
        self.keeps_records && !self.low_level
    }
}

impl PartialEq for EngineInfo {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for EngineInfo {}

impl fmt::Debug for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
