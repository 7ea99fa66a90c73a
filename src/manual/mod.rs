//! The manual: a page for the tool and one for each command, made of the same tables as the help, and
//! one on signals. What is prose stands in the text files here; what is a list is the program's own.

mod page;

use std::io;

use crate::analysis::programs::RUNTIMES;
use crate::cli::cli;
use crate::command::{self, COMMANDS, Command, Example};
use crate::engine::ENGINES;
use crate::exit::ExitStatus;
use crate::model::verdict::Verdict;
use page::{Page, Title, sentence};

/// The page on the tool, and that on signals, for [`SectionPage::written`].
const TOOL: &str = include_str!("cinspect.txt");
const SIGNALS: &str = include_str!("cinspect-signals.txt");

/// The examples of the page on signals.
pub const ON_SIGNALS: &[Example] = &[
    ("cinspect signals web TERM", "what TERM would do to each process of web, and why"),
    ("cinspect signals web --pid 1", "everything that is set for the signals of its init"),
    ("cinspect ps web --signal QUIT -o +why", "the tree, with what QUIT would do and why"),
    ("cinspect ps -T web", "with threads, each with its own mask"),
    ("cinspect signals --decode 0000000000014002", "the signals in a mask of /proc"),
    ("cinspect doctor web", "what stands in the way of a graceful stop, and what helps"),
    ("cinspect stop -n web", "what a stop would do, without doing it"),
];

/// What is worth reading besides.
const OTHERS: &[&str] = &[
    "cgroups(7)",
    "kill(1)",
    "namespaces(7)",
    "nsenter(1)",
    "pid_namespaces(7)",
    "pidfd_open(2)",
    "proc(5)",
    "signal(7)",
];

/// File name and content of each page.
///
/// # Errors
/// Those of writing into memory, which do not happen.
pub fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let date = date();
    let mut all = vec![("cinspect.1".to_owned(), tool(&date)?)];
    for command in COMMANDS {
        all.push((format!("cinspect-{}.1", command.name), of_command(command, &date)?));
    }
    all.push(("cinspect-signals.7".to_owned(), signals(&date)?));
    Ok(all)
}

/// The day of this version, as Debian's changelog has it.
fn date() -> String {
    let log = include_str!("../../contrib/debian/changelog");
    let line = log.lines().find(|line| line.starts_with(" -- ")).unwrap_or_default();
    let when = line.split_once("  ").map_or("", |(_, when)| when);
    let zoned = jiff::fmt::rfc2822::parse(when);
    zoned.map_or_else(|_| String::new(), |zoned| zoned.date().to_string())
}

fn title<'a>(name: &'a str, section: &'a str, date: &'a str) -> Title<'a> {
    Title { name, section, date, source: concat!("cinspect ", env!("CARGO_PKG_VERSION")) }
}

fn tool(date: &str) -> io::Result<Vec<u8>> {
    let mut page = Page::new(&title("cinspect", "1", date));
    let mut root = cli();
    root.build();
    page.name("cinspect", &uncapitalized(&about(&root)));
    page.written(TOOL, &mut |page, list| match list {
        "commands" => {
            for command in COMMANDS {
                let names: Vec<&str> =
                    [command.name].iter().chain(command.aliases).copied().collect();
                let see =
                    format!("{}. See cinspect-{}(1).", about(&command.parser()), command.name);
                page.item(&names.join(", "), &see);
            }
        }
        "options" => options(page, &root),
        "statuses" => {
            for status in ExitStatus::ALL {
                let users = COMMANDS.iter().filter(|command| command.statuses.contains(&status));
                let users: Vec<&str> = users.map(|command| command.name).collect();
                let users = match ExitStatus::DEFAULT.contains(&status) {
                    true => String::new(),
                    false => format!(" ({})", users.join(", ")),
                };
                page.item(&status.code().to_string(), &format!("{}{users}", status.meaning()));
            }
        }
        "records" => {
            for engine in ENGINES {
                let (places, what) = engine.files();
                page.item(places, what);
            }
        }
        "examples" => {
            for (line, what) in command::overview() {
                page.example(line, what);
            }
        }
        unknown => page.more(&format!("({unknown} is no list)")),
    });
    see_also(&mut page, "cinspect(1)");
    page.finish()
}

fn of_command(command: &Command, date: &str) -> io::Result<Vec<u8>> {
    let name = format!("cinspect-{}", command.name);
    let mut page = Page::new(&title(&name, "1", date));
    // Built within the whole, so that it has the global options.
    let mut root = COMMANDS
        .iter()
        .fold(cli(), |root, known| root.mut_subcommand(known.name, |_| known.parser()));
    root.build();
    let found = root.find_subcommand_mut(command.name);
    let clap = found.ok_or_else(|| io::Error::other("a command that is not in the table"))?;
    page.name(&name, &uncapitalized(&about(clap)));
    page.section("Synopsis");
    let usage = clap.render_usage().to_string();
    let whole = format!("cinspect {}", command.name);
    for (at, line) in usage.trim_start_matches("Usage:").trim().lines().enumerate() {
        let rest = line.trim().strip_prefix(&whole).unwrap_or_default().replace(['<', '>'], "");
        page.synopsis(&whole, rest.trim(), at > 0);
    }
    page.section("Description");
    let long = clap.get_long_about().or(clap.get_about()).map(ToString::to_string);
    let long = long.unwrap_or_default();
    let (first, rest) = long.split_once("\n\n").unwrap_or((&long, ""));
    page.prose(&format!("{}\n\n{rest}", sentence(first)));
    for alias in command.aliases {
        page.more(&format!("`cinspect {alias}` is the same."));
    }
    page.section("Options");
    options(&mut page, clap);
    for section in (command.sections)() {
        page.section(section.title);
        page.prose(section.intro);
        for (term, what) in &section.items {
            page.item(term, &sentence(what));
        }
    }
    page.section("Exit status");
    if command.name == "exec" {
        page.item("N", "The command's own status.");
        page.item("128+N", "Signal N ended the command.");
    }
    for status in ExitStatus::ALL.iter().filter(|status| command.statuses.contains(status)) {
        page.item(&status.code().to_string(), status.meaning());
    }
    page.section("Files");
    for (name, what) in command.files {
        page.item(name, what);
    }
    page.more("The records that containers are found by are listed in cinspect(1).");
    page.section("Examples");
    for (line, what) in command.examples {
        page.example(line, what);
    }
    see_also(&mut page, &format!("{name}(1)"));
    page.finish()
}

fn signals(date: &str) -> io::Result<Vec<u8>> {
    let mut page = Page::new(&title("cinspect-signals", "7", date));
    page.name(
        "cinspect-signals",
        "what becomes of a signal that is sent to a process in a container",
    );
    page.written(SIGNALS, &mut |page, list| match list {
        "verdicts" => {
            for (_, name, means) in Verdict::ALL {
                page.item(name, &sentence(means));
            }
        }
        "runtimes" => {
            for runtime in RUNTIMES {
                page.item(runtime.name, &sentence(runtime.about));
            }
        }
        "examples" => {
            for (line, what) in ON_SIGNALS {
                page.example(line, what);
            }
        }
        unknown => page.more(&format!("({unknown} is no list)")),
    });
    see_also(&mut page, "cinspect-signals(7)");
    page.finish()
}

fn about(clap: &clap::Command) -> String {
    clap.get_about().map(ToString::to_string).unwrap_or_default()
}

/// Arguments and options, in the groups of the help.
fn options(page: &mut Page, clap: &clap::Command) {
    let shown: Vec<&clap::Arg> = clap.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    let mut headings: Vec<Option<&str>> = vec![None];
    for arg in &shown {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            page.subsection(heading);
        }
        let (positional, named): (Vec<&clap::Arg>, Vec<&clap::Arg>) = shown
            .iter()
            .copied()
            .filter(|arg| arg.get_help_heading() == heading)
            .partition(|arg| arg.is_positional());
        for arg in positional.into_iter().chain(named) {
            let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
            let mut help = sentence(&help.unwrap_or_default());
            if arg.get_id() == "help" {
                help =
                    "Print the help in short; `cinspect help` and the command tells more.".into();
            }
            let possible: Vec<String> = arg
                .get_possible_values()
                .iter()
                .filter(|_| !arg.is_hide_possible_values_set())
                .map(|value| value.get_name().to_owned())
                .collect();
            if !possible.is_empty() && arg.get_action().takes_values() {
                help.push_str(&format!(" One of {}.", possible.join(", ")));
            }
            page.option(arg, &help);
        }
    }
}

fn see_also(page: &mut Page, own: &str) {
    page.section("See also");
    let mut ours: Vec<String> = COMMANDS
        .iter()
        .map(|command| format!("cinspect-{}(1)", command.name))
        .chain(["cinspect(1)".to_owned(), "cinspect-signals(7)".to_owned()])
        .filter(|name| name != own)
        .collect();
    ours.sort();
    let others = OTHERS.iter().map(|name| (*name).to_owned());
    let all: Vec<String> = ours.into_iter().chain(others).collect();
    page.prose(&all.join(", "));
}

/// As what follows a page's name begins.
fn uncapitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
