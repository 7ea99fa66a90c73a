//! Completion in the shells themselves, on a terminal, with the containers of a recorded host; and the
//! answers that their scripts get.

use std::path::Path;

use cinspect::testing::CompletionSource;
use libtest_mimic::{Failed, Trial};

use crate::hosts::unpack;
use crate::support::{Need, Outcome, check, cinspect, finish, repository, same, test, test_with};
use crate::terminal::Terminal;

/// The shells, their command lines without a user's settings, and how each loads the completion.
pub const SHELLS: &[(&str, &[&str], &str)] = &[
    ("bash", &["bash", "--norc", "--noprofile", "-i"], "source SCRIPT"),
    ("zsh", &["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D; source SCRIPT"),
    ("fish", &["fish", "--no-config", "-i"], "source SCRIPT"),
];

/// Typed text, with a tab for each `\t`, and the words that the shell has then.
const TYPED: &[(&str, &[&str])] = &[
    ("p\tw\t", &["ps", "web"]),
    ("inspe\tweb", &["inspect", "web"]),
    ("ki\tweb", &["kill", "web"]),
    ("ps docker:d\t", &["ps", "docker:db"]),
    ("signal web TE\t", &["signal", "web", "TERM"]),
    ("signal web RTMIN+1\t7", &["signal", "web", "RTMIN+17"]),
    ("signal web SIGTE\t", &["signal", "web", "SIGTERM"]),
    ("kill web -TER\t", &["kill", "web", "-TERM"]),
    ("trace web WIN\t", &["trace", "web", "WINCH"]),
    ("signal web TERM --pid 2\t", &["signal", "web", "TERM", "--pid", "29"]),
    ("signal web --host-pid 83\t", &["signal", "web", "--host-pid", "830"]),
    ("signal web TERM --com\tsl\t", &["signal", "web", "TERM", "--comm", "sleep"]),
    ("ps web -o pid,us\t", &["ps", "web", "-o", "pid,user"]),
    ("ps --sort -rs\tweb", &["ps", "--sort", "-rss", "web"]),
    ("ls --engine pod	", &["ls", "--engine", "podman"]),
    ("exec web --skip mnt,ne\t", &["exec", "web", "--skip", "mnt,net"]),
    ("inspect 3f2\t", &["inspect", "3f2a9c0d1e4b"]),
    ("stop nosuch\t", &["stop", "nosuch"]),
    ("why o\t", &["why", "old"]),
    ("logs o\t", &["logs", "old"]),
    ("trace o\t", &["trace", "old"]),
    ("doctor o\t", &["doctor", "old"]),
    ("cp o\t", &["cp", "old:"]),
    ("signal o\t", &["signal", "o"]),
    ("exec o\t", &["exec", "o"]),
    ("ps o\t", &["ps", "o"]),
    ("cp we\t", &["cp", "web:"]),
    ("cp ./xy\t", &["cp", "./xy:z"]),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test_with(
            Need::Namespaces,
            "completion::offers_no_control_characters",
            offers_no_control_characters,
        ),
        test("completion::prints_no_errors", prints_no_errors),
        test("completion::local_names_with_a_colon_get_a_dot", local_names_with_a_colon),
        test("completion::options_follow_a_hyphen", options_follow_a_hyphen),
        test("completion::every_value_has_a_source", every_value_has_a_source),
    ];
    for (shell, argv, load) in SHELLS {
        let name = format!("completion::completes_in_{shell}").leak();
        trials.push(test_with(Need::Shells, name, move || completes(shell, argv, load)));
        let name = format!("completion::{shell}_shows_descriptions").leak();
        trials.push(test_with(Need::Shells, name, move || shows_descriptions(shell, argv, load)));
    }
    trials
}

/// Starts a shell with our program, its completion, and a host in the directory `h`.
pub fn shell(name: &str, argv: &[&str], load: &str, directory: &Path) -> Result<Terminal, Failed> {
    let program = Path::new(env!("CARGO_BIN_EXE_cinspect"));
    let script = match name {
        "zsh" => "_cinspect".to_owned(),
        shell => format!("cinspect.{shell}"),
    };
    let script = repository().join("completions").join(script);
    let path = program.parent().unwrap_or(program).display().to_string();
    let directory = directory.display().to_string();
    let environment = [
        format!("PATH={path}:/usr/bin:/bin"),
        format!("HOME={directory}"),
        format!("XDG_CONFIG_HOME={directory}"),
        format!("XDG_DATA_HOME={directory}"),
        "LC_ALL=C.UTF-8".into(),
        "TERM=xterm".into(),
        "PS1=> ".into(),
    ];
    let chdir = format!("--chdir={directory}");
    let mut command_line = vec!["env", "-i", &chdir];
    command_line.extend(environment.iter().map(String::as_str));
    command_line.extend(argv);
    let mut terminal = Terminal::start(&command_line)?;
    let load = load.replace("SCRIPT", &script.display().to_string());
    // The typed text must not contain `ready` itself.
    terminal.type_in(&format!("{load}; printf 'rea%s\\n' dy\r"))?;
    terminal.wait_for("ready")?;
    Ok(terminal)
}

/// Types a line and returns its words: the shell prints each after a `<`.
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
    let directory = tempfile::tempdir()?;
    std::fs::create_dir(directory.path().join("h"))?;
    unpack("docker-systemd-v2", &directory.path().join("h"))?;
    std::fs::write(directory.path().join("xy:z"), "")?;
    Ok(directory)
}

fn completes(name: &str, argv: &[&str], load: &str) -> Outcome {
    let directory = host()?;
    let mut terminal = shell(name, argv, load, directory.path())?;
    // (fish offers only what begins with the typed text.)
    let with_dot: &[(&str, &[&str])] = &[("cp xy\t", &["cp", "./xy:z"])];
    let with_dot = if name == "fish" { &[] } else { with_dot };
    for (typed, wanted) in TYPED.iter().chain(with_dot) {
        let got = words(&mut terminal, &format!("--host-root h {typed}"))?;
        let wanted: Vec<String> =
            ["--host-root", "h"].iter().chain(*wanted).map(|word| (*word).to_owned()).collect();
        same((typed, got), (typed, wanted))?;
    }
    Ok(())
}

fn shows_descriptions(name: &str, argv: &[&str], load: &str) -> Outcome {
    let directory = host()?;
    let mut terminal = shell(name, argv, load, directory.path())?;
    terminal.type_in("cinspect --host-root h ps \t\t")?;
    let seen = terminal.wait_for("nginx:1.25")?;
    check(seen.contains("docker"), seen)
}

/// Asks as the scripts do, for an answer that is not empty: it comes soon or not at all, which on a busy
/// machine takes several attempts.
fn ask(words: &[&str]) -> crate::support::Run {
    let mut run = ask_once(words);
    for _ in 0..20 {
        if !run.out.is_empty() {
            break;
        }
        run = ask_once(words);
    }
    run
}

/// Asks once, as the scripts do.
fn ask_once(words: &[&str]) -> crate::support::Run {
    let mut arguments = vec!["--", "cinspect"];
    arguments.extend(words);
    let mut command = cinspect(&arguments);
    command.env("CINSPECT_COMPLETE", words.len().to_string());
    finish(command)
}

fn offers_no_control_characters() -> Outcome {
    let container = crate::support::fixture("init")?;
    let directory = tempfile::tempdir()?;
    for name in ["plain", "b\u{1b}[31mad", "new\nline", "ta\tb", "r\u{202e}tl"] {
        std::fs::write(directory.path().join(name), "")?;
    }
    std::fs::create_dir(directory.path().join("directory"))?;
    std::os::unix::fs::symlink("directory", directory.path().join("link"))?;
    let prefix = format!("pid:{}:{}/", container.init, directory.path().display());
    let run = ask(&["cp", &prefix]).expect(0)?;
    let names: Vec<&str> =
        run.out.lines().map(|line| line.strip_prefix(&prefix).unwrap_or(line).trim_end()).collect();
    same(names, vec!["directory/", "link/", "plain"])?;
    same(run.err.as_str(), "")
}

/// A local name with a colon is offered in the form that is not a path in a container.
fn local_names_with_a_colon() -> Outcome {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("qq:b"), "")?;
    std::fs::write(directory.path().join("qqc"), "")?;
    for (typed, offered) in [("qq", ["./qq:b", "qqc"]), ("./qq", ["./qq:b", "./qqc"])] {
        let mut command = cinspect(&["--", "cinspect", "cp", typed]);
        command.env("CINSPECT_COMPLETE", "2").current_dir(directory.path());
        let run = finish(command).expect(0)?;
        let values: Vec<&str> =
            run.out.lines().filter_map(|line| line.split('\t').next()).collect();
        same(values, offered.to_vec())?;
    }
    Ok(())
}

fn prints_no_errors() -> Outcome {
    for words in [
        &["--host-root", "/nowhere", "ps", ""][..],
        &["ps", "bad:word", "--pid", ""],
        &["signal", "nosuch", "TERM", "--pid", ""],
        &["cp", "nosuch:/"],
        &["exec", "nosuch", "-w", "/"],
        &["nosuch", ""],
        &["--nosuch", ""],
    ] {
        let run = ask_once(words).expect(0)?;
        same((words, run.err.as_str()), (words, ""))?;
    }
    let mut command = cinspect(&["ls"]);
    command.env("CINSPECT_COMPLETE", "1");
    check(
        finish(command).expect(0)?.out.contains("NAME"),
        "a line without `--` was not run as a command",
    )
}

/// Where a container is expected a tab offers no `--all`; after a hyphen, or where nothing else is
/// possible, it does.
fn options_follow_a_hyphen() -> Outcome {
    let directory = host()?;
    let root = directory.path().join("h").display().to_string();
    let lines_after = |typed: &[&str]| -> Result<Vec<String>, Failed> {
        let words: Vec<&str> = ["--host-root", &root].iter().chain(typed).copied().collect();
        Ok(ask(&words).expect(0)?.out.lines().map(str::to_owned).collect())
    };
    let begins = |lines: &[String], text: &str| lines.iter().any(|line| line.starts_with(text));
    let containers = lines_after(&["signal", ""])?;
    check(begins(&containers, "web\t") && !begins(&containers, "-"), format!("{containers:?}"))?;
    let signals = lines_after(&["signal", "web", ""])?;
    check(begins(&signals[..1], "TERM\t") && !begins(&signals, "RTMIN"), format!("{signals:?}"))?;
    let options = lines_after(&["signal", "-"])?;
    check(begins(&options, "--all\t") && !begins(&options, "web"), format!("{options:?}"))?;
    let further = lines_after(&["signal", "web", "TERM", ""])?;
    check(begins(&further, "--all\t"), format!("{further:?}"))
}

fn every_value_has_a_source() -> Outcome {
    let root = cinspect::testing::root_command();
    for command in root.get_subcommands() {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let known = arg.get::<CompletionSource>().is_some()
                || arg.get_value_hint() != clap::ValueHint::Unknown
                || !arg.get_possible_values().is_empty();
            check(
                known,
                format!("{} {}: it has no completion source", command.get_name(), arg.get_id()),
            )?;
        }
    }
    Ok(())
}
