//! The manual: cinspect(1), a page for each command and cinspect-signals(7). Prose is in the text
//! files here; options, columns, verdicts and other lists come from the tables of the program.

mod sections;

use crate::analysis::programs::programs;
use crate::cli::root::root_command;
use crate::command::{self, COMMANDS, Command, Example};
use crate::engine::ENGINES;
use crate::exit::ExitStatus;
use crate::model::verdict::Verdict;
use sections::ManualPage;

/// The text of the pages. A line `@NAME` is replaced by a list from the tables.
const OVERVIEW_PAGE: &str = include_str!("cinspect.txt");
const COMMAND_PAGE: &str = include_str!("cinspect-command.txt");
const SIGNALS_PAGE: &str = include_str!("cinspect-signals.txt");

/// The examples in cinspect-signals(7).
pub const ON_SIGNALS: &[Example] = &[
    ("cinspect signals web TERM", "show what TERM would do to each process of web, and why"),
    ("cinspect signals web --pid 1", "show what PID 1 does with each signal"),
    (
        "cinspect ps web --signal QUIT -o +note",
        "show what QUIT would do in the process tree, and why",
    ),
    ("cinspect ps -T web", "show threads too, each with its own mask"),
    ("cinspect signals --decode 0000000000014002", "list the signals in a mask from /proc"),
    ("cinspect doctor web", "show what prevents a graceful stop, and how to fix it"),
    ("cinspect stop -n web", "show what a stop would do, and do nothing"),
];

/// Related pages of other packages.
const SEE_ALSO: &[&str] = &[
    "cgroups(7)",
    "kill(1)",
    "namespaces(7)",
    "nsenter(1)",
    "pid_namespaces(7)",
    "pidfd_open(2)",
    "proc(5)",
    "signal(7)",
];

/// Returns the file name and the source of each page.
pub fn pages() -> Vec<(String, Vec<u8>)> {
    // Without the examples that `--help` prints first; built, so that commands have global options.
    let mut root = COMMANDS.iter().fold(root_command(), |root, command| {
        root.mut_subcommand(command.name, |_| command.parser())
    });
    root.build();
    let commands = COMMANDS.iter().filter_map(|command| {
        root.find_subcommand(command.name).map(|parser| command_page(command, parser))
    });
    let date = release_date();
    commands
        .chain([overview_page(&root), signals_page()])
        .map(|page| (format!("{}.{}", page.name, page.section), page.render(&date)))
        .collect()
}

/// Returns the date of this version, from Debian's changelog.
fn release_date() -> String {
    let log = include_str!("../../contrib/debian/changelog");
    let line = log.lines().find(|line| line.starts_with(" -- ")).unwrap_or_default();
    let time = line.split_once("  ").map_or("", |(_, time)| time);
    jiff::fmt::rfc2822::parse(time).map_or_else(|_| String::new(), |time| time.date().to_string())
}

fn overview_page(root: &clap::Command) -> ManualPage {
    let commands = COMMANDS.iter().map(|command| {
        let names = [&[command.name], command.aliases].concat().join(", ");
        let about = about(&command.parser());
        item(&names, &format!("{about}. See cinspect-{}(1).", command.name))
    });
    let statuses = ExitStatus::ALL.iter().map(|(status, meaning)| {
        let users = COMMANDS.iter().filter(|command| command.has_status(*status));
        let users: Vec<&str> = users.map(|command| command.name).collect();
        let users = match ExitStatus::DEFAULT.contains(status) {
            true => String::new(),
            false => format!(" ({})", users.join(", ")),
        };
        item(&status.code().to_string(), &format!("{meaning}{users}"))
    });
    let records = ENGINES.iter().map(|engine| {
        let (paths, about) = engine.info().files;
        item(paths, about)
    });
    let text = OVERVIEW_PAGE
        .replace("@commands", &commands.collect::<String>())
        .replace("@options", &options(root))
        .replace("@statuses", &statuses.collect::<String>())
        .replace("@records", &records.collect::<String>())
        .replace("@examples", &examples(&command::overview()))
        .replace("@see-also", &see_also("cinspect(1)"));
    ManualPage { name: "cinspect".into(), section: "1", about: uncapitalized(&about(root)), text }
}

fn command_page(command: &Command, parser: &clap::Command) -> ManualPage {
    let name = format!("cinspect-{}", command.name);
    let statuses = ExitStatus::ALL.iter().filter(|(status, _)| command.has_status(*status));
    let statuses = statuses.map(|(status, meaning)| item(&status.code().to_string(), meaning));
    let from_command = match command.name {
        "exec" => {
            "* N\n  The status of the command.\n* 128+N\n  Signal N terminated the command.\n"
        }
        _ => "",
    };
    let sections = (command.sections)().into_iter().map(|section| {
        let items = section.items.iter().map(|(term, meaning)| item(term, &sentence(meaning)));
        format!("# {}\n{}\n{}", section.title, section.intro, items.collect::<String>())
    });
    let files = command.files.iter().map(|(path, purpose)| item(path, purpose));
    let text = COMMAND_PAGE
        .replace("@synopsis", &synopsis(command, parser))
        .replace("@description", &description(command, parser))
        .replace("@options", &options(parser))
        .replace("@sections", &sections.collect::<String>())
        .replace("@statuses", &(from_command.to_owned() + &statuses.collect::<String>()))
        .replace("@files", &files.collect::<String>())
        .replace("@examples", &examples(command.examples))
        .replace("@see-also", &see_also(&format!("{name}(1)")));
    ManualPage { name, section: "1", about: uncapitalized(&about(parser)), text }
}

fn signals_page() -> ManualPage {
    let verdicts = Verdict::ALL.iter().map(|(_, name, meaning)| item(name, &sentence(meaning)));
    let programs = programs().map(|program| item(program.name, &program.description()));
    let text = SIGNALS_PAGE
        .replace("@verdicts", &verdicts.collect::<String>())
        .replace("@programs", &programs.collect::<String>())
        .replace("@examples", &examples(ON_SIGNALS))
        .replace("@see-also", &see_also("cinspect-signals(7)"));
    let about = "how signals act on processes in containers".into();
    ManualPage { name: "cinspect-signals".into(), section: "7", about, text }
}

fn about(parser: &clap::Command) -> String {
    parser.get_about().map(ToString::to_string).unwrap_or_default()
}

fn item(term: &str, text: &str) -> String {
    format!("* {term}\n  {}\n", text.replace('\n', " "))
}

fn examples(examples: &[Example]) -> String {
    examples.iter().map(|(line, purpose)| item(line, &sentence(purpose))).collect()
}

fn synopsis(command: &Command, parser: &clap::Command) -> String {
    let usage = parser.clone().render_usage().to_string();
    let words = format!("cinspect {}", command.name);
    let lines = usage.trim_start_matches("Usage:").lines();
    lines
        .map(|line| format!("> {}\n", line.trim().replacen(&words, &format!("`{words}`"), 1)))
        .collect()
}

fn description(command: &Command, parser: &clap::Command) -> String {
    let text = parser.get_long_about().map_or_else(|| about(parser), ToString::to_string);
    let (summary, details) = text.split_once('\n').unwrap_or((&text, ""));
    let aliases = command.aliases.iter().map(|alias| format!("\n`cinspect {alias}` is an alias."));
    format!("{}\n{details}{}", sentence(summary), aliases.collect::<String>())
}

/// Returns arguments and options under the headings of the help, those without a heading first.
fn options(parser: &clap::Command) -> String {
    let mut args: Vec<&clap::Arg> =
        parser.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    args.sort_by_key(|arg| (arg.get_help_heading().is_some(), !arg.is_positional()));
    let mut text = String::new();
    while let Some(heading) = args.first().map(|arg| arg.get_help_heading()) {
        if let Some(heading) = heading {
            text.push_str(&format!("## {heading}\n"));
        }
        let (group, rest): (Vec<_>, Vec<_>) =
            args.into_iter().partition(|arg| arg.get_help_heading() == heading);
        text.extend(group.iter().map(|arg| format!("- {}\n  {}\n", spelling(arg), meaning(arg))));
        args = rest;
    }
    text
}

/// Returns an argument as the user types it, from clap's form: `[CTR]...`, `--wait[=<DUR>]`.
fn spelling(arg: &clap::Arg) -> String {
    let usage = arg.to_string();
    let Some(long) = arg.get_long() else {
        return usage.replace('[', "<").replace(']', ">");
    };
    let short = arg.get_short().map_or_else(String::new, |short| format!("`-{short}`, "));
    format!("{short}`--{long}`{}", usage.trim_start_matches("--").trim_start_matches(long))
}

/// Returns the help of an argument, with its possible values and its default.
fn meaning(arg: &clap::Arg) -> String {
    if arg.get_id() == "help" {
        return "Print a short help. `cinspect help CMD` prints the complete help.".into();
    }
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let mut text = sentence(&help.unwrap_or_default()).replace('\n', " ");
    if !arg.get_action().takes_values() {
        return text;
    }
    let value = |value: &clap::builder::PossibleValue| match value.get_help() {
        Some(help) => format!("`{}` ({})", value.get_name(), uncapitalized(&help.to_string())),
        None => format!("`{}`", value.get_name()),
    };
    let values: Vec<String> = arg.get_possible_values().iter().map(value).collect();
    if !values.is_empty() && !arg.is_hide_possible_values_set() {
        text.push_str(&format!(" One of {}.", values.join(", ")));
    }
    for value in arg.get_default_values().iter().filter(|_| !arg.is_hide_default_value_set()) {
        text.push_str(&format!(" The default is `{}`.", value.display()));
    }
    text
}

fn see_also(shown: &str) -> String {
    let commands = COMMANDS.iter().map(|command| format!("cinspect-{}(1)", command.name));
    let mut pages: Vec<String> =
        commands.chain(["cinspect(1)".into(), "cinspect-signals(7)".into()]).collect();
    pages.retain(|page| page != shown);
    pages.sort();
    pages.extend(SEE_ALSO.iter().map(|page| (*page).to_owned()));
    pages.join(", ")
}

/// Returns the text with a full stop, and with a capital unless it begins with a kernel's name such
/// as `no_new_privs`.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = match text.split(' ').next() {
        Some(word) if word.contains('_') => letters.next().into_iter().collect(),
        _ => letters.next().into_iter().flat_map(char::to_uppercase).collect(),
    };
    let end = if text.ends_with(['.', '?', ':']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// Returns the text without its capital, unless it begins with an acronym.
fn uncapitalized(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if letters.as_str().starts_with(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}
