//! THE COMMAND TABLE. Parsing, help, manual pages and completions all come out of it; a command is
//! one file and two lines here.

mod completions;
mod cp;
mod doctor;
mod exec;
mod help;
mod inspect;
mod ls;
mod ps;
mod signal;
mod signals;
mod stop;

pub use completions::script;
pub use help::arranged;

use clap::{ArgMatches, Args, FromArgMatches};

use crate::cli::context::Context;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::model::container::Evidence;
use crate::output::column::Column;
use crate::output::escape::safe_str;
use crate::proc::Host;
use crate::resolve::{Access, ResolvedContainer, Resolver};

/// A command line and what it is for.
pub type Example = (&'static str, &'static str);

/// A part of a manual page that belongs to one command.
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What stands above the list.
    pub intro: &'static str,
    /// Terms, and what each means.
    pub items: Vec<(String, String)>,
}

/// A command.
pub struct Command {
    /// As it is typed.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What to type, and what it does.
    pub examples: &'static [Example],
    /// What it reads or writes besides the records that find containers, and for what.
    pub files: &'static [(&'static str, &'static str)],
    /// The exit statuses that it uses.
    pub statuses: &'static [ExitStatus],
    /// What else its manual page has.
    pub sections: fn() -> Vec<Section>,
    /// Whether it modifies a container. (The misspelling of a command is never answered with one that
    /// does if one that does not is as near.)
    pub modifies: bool,
    augment: fn(clap::Command) -> clap::Command,
    /// Carries it out.
    pub run: fn(&Context, &ArgMatches) -> Result<ExitStatus, Error>,
}

/// THE TABLE.
pub static COMMANDS: &[Command] = &[
    ls::COMMAND,
    ps::COMMAND,
    signal::COMMAND,
    signals::COMMAND,
    stop::COMMAND,
    doctor::COMMAND,
    exec::COMMAND,
    cp::COMMAND,
    inspect::COMMAND,
    completions::COMMAND,
];

impl Command {
    /// The command for the parser, with its help.
    pub fn clap(&self) -> clap::Command {
        arranged(self.parser(), self.examples)
    }

    /// The command for the parser, with its doc comment as it stands.
    pub fn parser(&self) -> clap::Command {
        (self.augment)(clap::Command::new(self.name)).visible_aliases(self.aliases.iter().copied())
    }

    const fn files(mut self, files: &'static [(&'static str, &'static str)]) -> Self {
        self.files = files;
        self
    }

    const fn statuses(mut self, statuses: &'static [ExitStatus]) -> Self {
        self.statuses = statuses;
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

/// Builds a row of the table from a command's arguments, whose doc comment is the help.
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
        sections: Vec::new,
        modifies: false,
        augment: A::augment_args,
        run,
    }
}

/// Whether this host's processes can be acted on from here, or why not and what to do.
fn may_act(host: &Host, what: &str, exit: ExitStatus) -> Result<(), Error> {
    host.may_act().map_err(|why| {
        Error::new(exit, format!("cannot {what} from here"))
            .cause(why.to_string())
            .hint("run cinspect in the host's PID namespace (`--pid=host`, `hostPID: true`)")
    })
}

/// The arguments of a command as its own type.
fn arguments<A: FromArgMatches>(matches: &ArgMatches) -> Result<A, Error> {
    A::from_arg_matches(matches)
        .map_err(|error| Error::new(ExitStatus::Usage, "bad command line").cause(error.to_string()))
}

/// The first example of each command, for the tool's own help.
pub fn overview() -> Vec<Example> {
    COMMANDS.iter().filter_map(|command| command.examples.first().copied()).collect()
}

/// The part of a manual page that tells a table's columns.
fn columns_section<R>(table: &'static [Column<R>]) -> Section {
    let item = |column: &Column<R>| {
        let usual = if column.default { "; shown by default" } else { "" };
        let json = match column.json {
            Some(key) if key != column.name => format!("; `{key}` in JSON"),
            Some(_) => String::new(),
            None => "; not in JSON".into(),
        };
        (column.name.to_owned(), format!("{}{usual}{json}", column.description))
    };
    Section {
        title: "Columns",
        intro: "For `-o`: a list with commas, which takes the place of the usual columns, or with `+` before it goes behind them. All of them are in the answer with `--json`, but for those of which it is said.",
        items: table.iter().map(item).collect(),
    }
}

/// Resolves a reference. With `-v` it prints the steps of the lookup, and always what a user of the
/// container should know.
fn resolve<'a>(
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
    let container = &resolved.container;
    for Evidence { source, observation, confirms } in &container.evidence {
        let mark = if *confirms { "evidence" } else { "but" };
        ui.step(&format!("{mark}: {}: {}", safe_str(source), safe_str(observation)));
    }
    let name = container.qualified();
    let name = safe_str(&name);
    let verified = if container.verified { "verified" } else { "unverified" };
    ui.step(&format!("found {name} ({verified})"));
    if !container.verified {
        ui.warn(&format!(
            "{name}: unverified: only the name of a cgroup says which container it is"
        ));
    }
    if let Some(remark) = &container.remark {
        ui.note(&format!("{name}: {}", safe_str(remark)));
    }
    Ok(resolved)
}
