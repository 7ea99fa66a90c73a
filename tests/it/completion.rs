//! Completion in the shells themselves, at a terminal, with a recorded host's containers; and what
//! the scripts are told, asked directly.

use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::hosts::unpack;
use crate::support::{Need, Outcome, check, cinspect, finish, repository, same, test, test_with};
use crate::terminal::Terminal;

/// The shells, how each is started without anybody's settings, and how it learns of the completion.
pub const SHELLS: &[(&str, &[&str], &str)] = &[
    ("bash", &["bash", "--norc", "--noprofile", "-i"], "source SCRIPT"),
    ("zsh", &["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D; source SCRIPT"),
    ("fish", &["fish", "--no-config", "-i"], "source SCRIPT"),
];

/// What is typed, a tab for each `\t`, and the words that the shell has then.
const TYPED: &[(&str, &[&str])] = &[
    ("p\tw\t", &["ps", "web"]),
    ("l\tweb", &["ls", "web"]),
    ("ki\tweb", &["kill", "web"]),
    ("ps docker:d\t", &["ps", "docker:db"]),
    ("signal web TE\t", &["signal", "web", "TERM"]),
    ("signal web SIGTE\t", &["signal", "web", "SIGTERM"]),
    ("signal web TERM --pid 2\t", &["signal", "web", "TERM", "--pid", "29"]),
    ("signal web --host-pid 83\t", &["signal", "web", "--host-pid", "830"]),
    ("signal web TERM --com\tsl\t", &["signal", "web", "TERM", "--comm", "sleep"]),
    ("ps web -o pid,us\t", &["ps", "web", "-o", "pid,user"]),
    ("ps --sort -rs\tweb", &["ps", "--sort", "-rss", "web"]),
    ("ls --engine pod	", &["ls", "--engine", "podman"]),
    ("exec web --skip mnt,ne\t", &["exec", "web", "--skip", "mnt,net"]),
    ("inspect 3f2\t", &["inspect", "3f2a9c0d1e4b"]),
    ("stop nosuch\t", &["stop", "nosuch"]),
    ("cp we\t", &["cp", "web:"]),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test_with(Need::Namespaces, "completion::offers_nothing_that_paints", hostile),
        test("completion::says_nothing_of_errors", silent),
        test("completion::options_are_for_who_begins_one", options),
        test("completion::every_value_is_completed_or_free", covered),
    ];
    for (shell, argv, load) in SHELLS {
        let name = format!("completion::in_{shell}").leak();
        trials.push(test_with(Need::Shells, name, move || typed(shell, argv, load)));
        let name = format!("completion::{shell}_shows_what_each_is").leak();
        trials.push(test_with(Need::Shells, name, move || shown(shell, argv, load)));
    }
    trials
}

/// A shell with our program, its completion, and a host in the folder `h`.
pub fn shell(name: &str, argv: &[&str], load: &str, folder: &Path) -> Result<Terminal, Failed> {
    let program = Path::new(env!("CARGO_BIN_EXE_cinspect"));
    let script = match name {
        "zsh" => "_cinspect".to_owned(),
        shell => format!("cinspect.{shell}"),
    };
    let script = repository().join("completions").join(script);
    let path = program.parent().unwrap_or(program).display().to_string();
    let folder = folder.display().to_string();
    let environment = [
        format!("PATH={path}:/usr/bin:/bin"),
        format!("HOME={folder}"),
        format!("XDG_CONFIG_HOME={folder}"),
        format!("XDG_DATA_HOME={folder}"),
        "LC_ALL=C.UTF-8".into(),
        "TERM=xterm".into(),
        "PS1=> ".into(),
    ];
    let chdir = format!("--chdir={folder}");
    let mut all = vec!["env", "-i", &chdir];
    all.extend(environment.iter().map(String::as_str));
    all.extend(argv);
    let mut terminal = Terminal::start(&all)?;
    let load = load.replace("SCRIPT", &script.display().to_string());
    // (What is typed does not say `ready` itself.)
    terminal.type_in(&format!("{load}; printf 'rea%s\\n' dy\r"))?;
    terminal.wait_for("ready")?;
    Ok(terminal)
}

/// The words of the line once this was typed: the shell prints each after a `<`.
pub fn words(terminal: &mut Terminal, typed: &str) -> Result<Vec<String>, Failed> {
    terminal.type_in(&format!("cinspect {typed}"))?;
    terminal.type_in("\u{5} END\u{1}printf '<%s' \r")?;
    let seen = terminal.wait_for("<END")?;
    let from = seen.rfind("<cinspect").ok_or("the line was not printed")?;
    let words = seen[from..].split('<').skip(2).map(str::to_owned);
    let words: Vec<String> = words.take_while(|word| word != "END").collect();
    terminal.type_in("\r")?;
    Ok(words)
}

fn host() -> Result<tempfile::TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("h"))?;
    unpack("docker-systemd-v2", &folder.path().join("h"))?;
    Ok(folder)
}

fn typed(name: &str, argv: &[&str], load: &str) -> Outcome {
    let folder = host()?;
    let mut terminal = shell(name, argv, load, folder.path())?;
    for (typed, wanted) in TYPED {
        let got = words(&mut terminal, &format!("--host-root h {typed}"))?;
        let wanted: Vec<String> =
            ["--host-root", "h"].iter().chain(*wanted).map(|word| (*word).to_owned()).collect();
        same((typed, got), (typed, wanted))?;
    }
    Ok(())
}

fn shown(name: &str, argv: &[&str], load: &str) -> Outcome {
    let folder = host()?;
    let mut terminal = shell(name, argv, load, folder.path())?;
    terminal.type_in("cinspect --host-root h ps \t\t")?;
    let seen = terminal.wait_for("nginx:1.25")?;
    check(seen.contains("docker"), seen)
}

/// Asked as the scripts ask.
fn ask(words: &[&str]) -> crate::support::Run {
    let mut arguments = vec!["--", "cinspect"];
    arguments.extend(words);
    let mut command = cinspect(&arguments);
    command.env("CINSPECT_COMPLETE", words.len().to_string());
    finish(command)
}

fn hostile() -> Outcome {
    let container = crate::support::fixture("init")?;
    let folder = tempfile::tempdir()?;
    for name in ["plain", "b\u{1b}[31mad", "new\nline", "ta\tb", "r\u{202e}tl"] {
        std::fs::write(folder.path().join(name), "")?;
    }
    std::fs::create_dir(folder.path().join("folder"))?;
    std::os::unix::fs::symlink("folder", folder.path().join("link"))?;
    let inside = format!("pid:{}:{}/", container.init, folder.path().display());
    let given = ask(&["cp", &inside]).expect(0)?;
    let names: Vec<&str> = given
        .out
        .lines()
        .map(|line| line.strip_prefix(&inside).unwrap_or(line).trim_end())
        .collect();
    same(names, vec!["folder/", "link/", "plain"])?;
    same(given.err.as_str(), "")
}

fn silent() -> Outcome {
    for words in [
        &["--host-root", "/nowhere", "ps", ""][..],
        &["ps", "bad:word", "--pid", ""],
        &["signal", "nosuch", "TERM", "--pid", ""],
        &["cp", "nosuch:/"],
        &["exec", "nosuch", "-w", "/"],
        &["nosuch", ""],
        &["--nosuch", ""],
    ] {
        let given = ask(words).expect(0)?;
        same((words, given.err.as_str()), (words, ""))?;
    }
    let mut command = cinspect(&["ls"]);
    command.env("CINSPECT_COMPLETE", "1");
    check(finish(command).expect(0)?.out.contains("NAME"), "what is no question is a command")
}

/// Where containers are wanted a tab gives no `--all`; with a hyphen, or where nothing else can stand,
/// it does.
fn options() -> Outcome {
    let folder = host()?;
    let root = folder.path().join("h").display().to_string();
    let given = |typed: &[&str]| -> Result<Vec<String>, Failed> {
        let words: Vec<&str> = ["--host-root", &root].iter().chain(typed).copied().collect();
        Ok(ask(&words).expect(0)?.out.lines().map(str::to_owned).collect())
    };
    let begins = |lines: &[String], text: &str| lines.iter().any(|line| line.starts_with(text));
    let containers = given(&["signal", ""])?;
    check(begins(&containers, "web\t") && !begins(&containers, "-"), format!("{containers:?}"))?;
    let options = given(&["signal", "-"])?;
    check(begins(&options, "--all\t") && !begins(&options, "web"), format!("{options:?}"))?;
    let further = given(&["signal", "web", "TERM", ""])?;
    check(begins(&further, "--all\t"), format!("{further:?}"))
}

/// Values that nobody can list.
const FREE: &[&str] = &["DUR", "REGEX", "INT", "HEX", "STEPS", "SECS", "NAME[=VALUE]", "CMD"];

fn covered() -> Outcome {
    let root = cinspect::cli::root::root_command();
    for command in root.get_subcommands() {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let known = cinspect::completion::is_completed(arg)
                || !arg.get_possible_values().is_empty()
                || arg.get_value_names().is_some_and(|names| FREE.contains(&names[0].as_str()));
            check(known, format!("{} {}: nothing completes it", command.get_name(), arg.get_id()))?;
        }
    }
    Ok(())
}
