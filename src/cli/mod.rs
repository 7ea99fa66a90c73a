//! The root of the command line: global options, and from them the surroundings in which a command
//! runs. What the commands are stands in the command table.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::command::{self, COMMANDS};
use crate::error::{Error, ExitStatus, os_error};
use crate::model::signal::SignalNumber;
use crate::output::terminal::{ColorMode, Ui, is_broken_pipe};
use crate::proc::{ForeignProcfs, Host};

/// Options that every command has, before or after its own.
#[derive(Args, Debug)]
pub struct Global {
    /// Print NDJSON: one object a line, with stable names and exact strings
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// When to colour: auto (at a terminal, unless `NO_COLOR` is set), always, never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub color: ColorMode,
    /// The host's file system, as mounted there: inside a privileged container
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true,
        help_heading = "Global options"
    )]
    pub host_root: PathBuf,
    /// Tell each step of finding the container, on stderr
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub verbose: bool,
}

/// What a command runs in.
pub struct Context {
    /// The two streams.
    pub ui: Ui,
    host_root: PathBuf,
}

impl Context {
    /// The host to look at.
    ///
    /// # Errors
    /// When there is no `/proc` to read.
    pub fn host(&self) -> Result<Host, Error> {
        let host = Host::new(&self.host_root).map_err(|error| {
            let what = format!("cannot look at the host below `{}`", self.host_root.display());
            Error::new(ExitStatus::Failed, what)
                .cause(error.to_string())
                .hint("a proc file system has to be mounted at its `proc` directory")
        })?;
        if !host.has_cgroups() {
            self.ui.warn(
                "no cgroup hierarchy is mounted at /sys/fs/cgroup: containers are told by their PID namespaces alone",
            );
        }
        // What the kernel tells of cgroups is in the reader's numbers, and `/proc` here in others.
        if let Err(why @ ForeignProcfs::OtherNamespace(_)) = host.may_act() {
            self.ui.warn(&format!("{why}: containers may be missed, or shown with another's processes; run it in the host's (`--pid=host`, `hostPID: true`)"));
        }
        Ok(host)
    }

    /// The same for who looks again and again: what was said once is not said again.
    #[must_use]
    pub fn quiet(&self) -> Self {
        Self { ui: Ui { quiet: true, ..self.ui.clone() }, host_root: self.host_root.clone() }
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// When stdout cannot take it; a reader that has gone is no failure.
    pub fn print(&self, text: &str) -> Result<(), Error> {
        match self.ui.out(text) {
            Err(error) if !is_broken_pipe(&error) => {
                Err(Error::new(ExitStatus::Failed, "cannot write the answer")
                    .cause(os_error(error)))
            }
            _ => Ok(()),
        }
    }
}

/// The whole command line, built from the command table.
pub fn cli() -> Command {
    // The doc comment of the options comes with them, and is not what the tool is about.
    let root = Global::augment_args(Command::new("cinspect"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Find any container without its engine, see its processes and their signals, and act on exactly the right one")
        .long_about(None)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(false)
        .max_term_width(100);
    let root = command::arranged(root, &command::overview());
    COMMANDS.iter().fold(root, |root, command| root.subcommand(command.clap()))
}

/// Runs a command line; the exit status is the one the manual lists.
pub fn run(argv: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().map(Into::into).collect();
    crate::action::exec::be_helper(argv.first().map(OsString::as_os_str));
    if crate::completion::answer(&argv) {
        return ExitStatus::Done.into();
    }
    let as_signal = hyphened_signal(&argv);
    let matches = match cli().try_get_matches_from(argv) {
        Ok(matches) => matches,
        // Help and version are answers; help for want of a command is said on stderr.
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitStatus::Usage.into();
        }
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitStatus::Done.into();
        }
        Err(error) => {
            let is_unknown = error.kind() == ErrorKind::UnknownArgument;
            let error = match as_signal.filter(|_| is_unknown) {
                Some(signal) => Error::new(ExitStatus::Usage, format!("`-{signal}` is no option"))
                    .hint(format!("the container comes first, then the signal without a hyphen: `cinspect kill web {signal}`; or `-s {signal}`")),
                None => usage(&error),
            };
            Ui::new(ColorMode::Auto, false, false).fail(&error);
            return error.status.into();
        }
    };
    let Some((name, inner)) = matches.subcommand() else { return ExitStatus::Usage.into() };
    let (context, done) = match Global::from_arg_matches(inner) {
        Ok(global) => {
            let ui = Ui::new(global.color, global.json, global.verbose);
            let context = Context { ui, host_root: global.host_root };
            let done = dispatch(&context, name, inner);
            (context, done)
        }
        Err(error) => {
            let ui = Ui::new(ColorMode::Auto, false, false);
            (Context { ui, host_root: PathBuf::new() }, Err(usage(&error)))
        }
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            context.ui.fail(&error);
            error.status.into()
        }
    }
}

/// The signal in `kill -9 web`, as fingers have learnt it from kill(1); for no other command.
fn hyphened_signal(argv: &[OsString]) -> Option<String> {
    let mut words = argv.iter().skip(1).filter_map(|word| word.to_str());
    words.find(|word| ["signal", "kill"].contains(word))?;
    words.find_map(|word| {
        let word = word.strip_prefix('-')?;
        SignalNumber::parse(word).ok().map(|_| word.to_owned())
    })
}

/// The parser's error in the form of all others: its first paragraph, and its tip as the hint.
fn usage(error: &clap::Error) -> Error {
    use clap::error::{ContextKind, ContextValue};
    let help = "`--help` after the command tells how it is used";
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
    {
        let missing: Vec<&str> = missing.iter().map(|one| one.trim_end_matches("...")).collect();
        let are = if missing.len() == 1 { "is" } else { "are" };
        return Error::new(ExitStatus::Usage, format!("{} {are} missing", missing.join(" and ")))
            .hint(help);
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if let Some(name) = context(ContextKind::InvalidSubcommand) {
        let near = match error.get(ContextKind::SuggestedSubcommand) {
            Some(ContextValue::Strings(near)) => near.first(),
            _ => None,
        };
        let hint = near.map_or_else(
            || "`cinspect --help` lists them".into(),
            |near| format!("did you mean `{near}`? `cinspect --help` lists them"),
        );
        return Error::new(ExitStatus::Usage, format!("no command `{name}`")).hint(hint);
    }
    if let (Some(arg), Some(value)) =
        (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue))
        && !value.is_empty()
    {
        let bad = Error::new(ExitStatus::Usage, format!("`{value}` does not fit `{arg}`"));
        // (What our own parsers say has the way forward behind a semicolon.)
        let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        // (A regular expression's is drawn over several lines, the last of which says it.)
        let last = why.lines().last().unwrap_or_default();
        let why = last.strip_prefix("error: ").unwrap_or(last).to_owned();
        if let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue)
            && !valid.is_empty()
        {
            return bad.hint(format!("one of {}", valid.join(", ")));
        }
        return match why.split_once("; ") {
            Some((why, hint)) => bad.cause(why).hint(hint),
            None if why.starts_with("there are ") => bad.hint(why),
            None if why.is_empty() => bad.hint(help),
            None => bad.cause(why).hint(help),
        };
    }
    let text = error.render().to_string();
    let words: Vec<&str> = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .flat_map(str::split_whitespace)
        .collect();
    let what = words.join(" ").replace('\'', "`");
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    // (How to pass a value that begins with a hyphen is not what whoever mistyped an option asks.)
    let tip = tip.filter(|tip| !tip.starts_with("to pass")).map(|tip| tip.replace('\'', "`"));
    Error::new(ExitStatus::Usage, what).hint(tip.unwrap_or_else(|| help.into()))
}

fn dispatch(context: &Context, name: &str, inner: &ArgMatches) -> Result<ExitStatus, Error> {
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(context, inner),
        None => Err(Error::new(ExitStatus::Usage, format!("no command `{name}`"))),
    }
}
