//! THE COMMAND TABLE, from which the parser, the help, the manual pages and the completions are made. A
//! command is one file, and two lines here. The functions below the table are shared by commands.

mod any_container;
mod completions;
mod copy_root;
mod cp;
mod doctor;
mod exec;
mod forecast;
mod help;
mod init_changes;
mod inspect;
mod logs;
mod ls;
mod ps;
mod signal;
mod signals;
mod stop;
mod trace;
mod why;

pub use completions::script;
pub use help::with_help_layout;

use clap::{ArgMatches, Args, FromArgMatches};

use crate::cli::context::Context;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::model::container::{Container, Evidence};
use crate::model::pid::ContainerPid;
use crate::output::column::Column;
use crate::output::escape::{safe, safe_str};
use crate::proc::Host;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// A command line and its purpose.
pub type Example = (&'static str, &'static str);

/// A section of a command's manual page.
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// The paragraph above the list.
    pub intro: &'static str,
    /// Terms and their meanings.
    pub items: Vec<(String, String)>,
}

impl Section {
    /// Creates a section with a list.
    fn new<T: Into<String>, M: Into<String>>(
        title: &'static str,
        intro: &'static str,
        items: impl IntoIterator<Item = (T, M)>,
    ) -> Self {
        let items = items.into_iter().map(|(term, meaning)| (term.into(), meaning.into()));
        Self { title, intro, items: items.collect() }
    }
}

/// A command, as data.
pub struct Command {
    /// The word that is typed.
    pub name: &'static str,
    /// Other words for it.
    pub aliases: &'static [&'static str],
    /// Examples; the first one is on the first screen of `cinspect`.
    pub examples: &'static [Example],
    /// Files that it reads or writes, besides the records that containers are found by, each with its purpose.
    pub files: &'static [(&'static str, &'static str)],
    /// The exit statuses that it shares with others.
    statuses: &'static [ExitStatus],
    /// Its further exit statuses.
    further_statuses: &'static [ExitStatus],
    /// Further sections of its manual page.
    pub sections: fn() -> Vec<Section>,
    /// Whether it modifies a container: then it is suggested only for a plain misspelling.
    pub modifies: bool,
    augment: fn(clap::Command) -> clap::Command,
    /// Runs it.
    pub run: fn(&Context, &ArgMatches) -> Result<ExitStatus, Error>,
}

/// THE TABLE.
pub static COMMANDS: &[Command] = &[
    ls::COMMAND,
    ps::COMMAND,
    signal::COMMAND,
    signals::COMMAND,
    stop::COMMAND,
    trace::COMMAND,
    doctor::COMMAND,
    exec::COMMAND,
    cp::COMMAND,
    inspect::COMMAND,
    why::COMMAND,
    logs::COMMAND,
    completions::COMMAND,
];

impl Command {
    /// Returns the command for the parser, with its help.
    pub fn clap(&self) -> clap::Command {
        with_help_layout(self.parser(), self.examples)
    }

    /// Returns the command for the parser, with its doc comment as it is.
    pub fn parser(&self) -> clap::Command {
        (self.augment)(clap::Command::new(self.name)).visible_aliases(self.aliases.iter().copied())
    }

    /// Returns the status of a failure before the command begins.
    pub fn failure(&self) -> ExitStatus {
        let own = ExitStatus::CannotEnter;
        if self.has_status(own) { own } else { ExitStatus::Failed }
    }

    /// Whether it may exit with this status.
    pub fn has_status(&self, status: ExitStatus) -> bool {
        self.statuses.contains(&status) || self.further_statuses.contains(&status)
    }

    const fn files(mut self, files: &'static [(&'static str, &'static str)]) -> Self {
        self.files = files;
        self
    }

    const fn statuses(mut self, statuses: &'static [ExitStatus]) -> Self {
        self.statuses = statuses;
        self
    }

    /// Sets the statuses of a command that takes containers, and its further ones.
    const fn on_containers(mut self, further: &'static [ExitStatus]) -> Self {
        self.statuses = ExitStatus::ON_CONTAINERS;
        self.further_statuses = further;
        self
    }

    const fn modifies(mut self) -> Self {
        self.modifies = true;
        self
    }

    const fn sections(mut self, sections: fn() -> Vec<Section>) -> Self {
        self.sections = sections;
        self
    }
}

/// Creates a row of the table from a command's arguments, whose doc comment is the help.
const fn command<A: Args + FromArgMatches>(
    name: &'static str,
    aliases: &'static [&'static str],
    examples: &'static [Example],
    run: fn(&Context, &ArgMatches) -> Result<ExitStatus, Error>,
) -> Command {
    Command {
        name,
        aliases,
        examples,
        files: &[],
        statuses: ExitStatus::DEFAULT,
        further_statuses: &[],
        sections: Vec::new,
        modifies: false,
        augment: A::augment_args,
        run,
    }
}

/// Checks that this host's processes can be acted on from here.
///
/// # Errors
/// `/proc` is another PID namespace's, or not mounted. `action` completes `cannot …`.
fn may_act(host: &Host, action: &str, status: ExitStatus) -> Result<(), Error> {
    host.may_act().map_err(|reason| {
        Error::new(status, format!("cannot {action} from here"))
            .cause(reason.to_string())
            .hint("run cinspect in the host's PID namespace (`--pid=host`, `hostPID: true`)")
    })
}

/// Returns the arguments of a command as its own type.
fn arguments<A: FromArgMatches>(matches: &ArgMatches) -> Result<A, Error> {
    A::from_arg_matches(matches).map_err(|error| {
        Error::new(ExitStatus::Usage, "invalid command line").cause(error.to_string())
    })
}

/// Returns the first example of each command, for the first screen.
pub fn overview() -> Vec<Example> {
    COMMANDS.iter().filter_map(|command| command.examples.first().copied()).collect()
}

/// Returns the section of a manual page that lists the columns of a table.
fn columns_section<R>(table: &'static [Column<R>]) -> Section {
    let item = |column: &Column<R>| {
        let default = if column.default { "; shown by default" } else { "" };
        let json = match column.json {
            Some(key) if key != column.name => format!("; `{key}` in JSON"),
            Some(_) => String::new(),
            None => "; not in JSON".into(),
        };
        (column.name.to_owned(), format!("{}{default}{json}", column.description))
    };
    Section {
        title: "Columns",
        intro: "For `-o`, separated by commas: `LIST` replaces the default columns, `+LIST` appends to them. `--json` prints all of them unless noted.",
        items: table.iter().map(item).collect(),
    }
}

/// Returns the process that a PID in a container means: that of a thread if it is a TID, with a note.
fn process_of(
    context: &Context,
    found: &ResolvedContainer<'_>,
    pid: Option<ContainerPid>,
) -> Option<ContainerPid> {
    let pid = pid?;
    let Some((process, comm)) = found.process_of_thread(pid) else { return Some(pid) };
    context.ui.note(&format!("{pid} is a thread of process {process} {}", safe(&comm)));
    Some(process)
}

/// Returns the qualified name of the container in which another one was started.
fn outer(found: &ResolvedContainer<'_>) -> Option<String> {
    let inventory = found.inventory.complete(found.host);
    inventory.outer(found.host, &found.container).map(Container::qualified)
}

/// Resolves a reference. Prints the steps of the lookup with `-v`, and always the notes about the
/// container.
fn resolve<'a>(
    context: &Context,
    resolver: &Resolver<'a>,
    word: &str,
    access: Access,
) -> Result<ResolvedContainer<'a>, Error> {
    let found = resolve_listed(context, resolver, word, access)?;
    if !found.container.verified {
        let name = found.container.qualified();
        let name = safe_str(&name);
        context.ui.warn(&format!("{name}: unverified: only its cgroup's name identifies it"));
    }
    Ok(found)
}

/// Resolves a reference like [`resolve`], for a command that marks a container that is unverified.
fn resolve_listed<'a>(
    context: &Context,
    resolver: &Resolver<'a>,
    word: &str,
    access: Access,
) -> Result<ResolvedContainer<'a>, Error> {
    let ui = &context.ui;
    let result = resolver.resolve(word, access);
    for step in resolver.steps(word) {
        ui.step(&safe_str(&step));
    }
    let resolved = result?;
    if let Some(note) = resolved.note(word) {
        ui.note(&safe_str(&note));
    }
    let container = &resolved.container;
    for Evidence { source, observation, confirms } in &container.evidence {
        let mark = if *confirms { "evidence" } else { "but" };
        ui.step(&format!("{mark}: {}: {}", safe_str(source), safe_str(observation)));
    }
    let name = container.qualified();
    let name = safe_str(&name);
    let verified = if container.verified { "verified" } else { "unverified" };
    ui.step(&format!("found {name} ({verified})"));
    if !container.verified
        && let Some(outer) = ui.verbose.then(|| outer(&resolved)).flatten()
    {
        let outer = safe_str(&outer);
        ui.step(&format!("it was started in {outer}: records in containers are not read"));
    }
    if access == Access::Act && container.is_pause() {
        ui.note(&format!(
            "{name} is the pause container of a pod: the kubelet replaces the whole pod when it ends"
        ));
    }
    if let Some(remark) = &container.remark {
        ui.note(&format!("{name}: {}", safe_str(remark)));
    }
    Ok(resolved)
}
