//! The manual pages and completion scripts in the repository are generated from the command table, and the
//! README names every command. `UPDATE=1 cargo test --test it docs::` writes pages and scripts.

use std::path::Path;
use std::process::{Command, Stdio};

use cinspect::testing::{COMMANDS, manual_pages, script};
use clap::ValueEnum;
use clap_complete::{Generator, Shell};
use libtest_mimic::Trial;

use crate::support::{
    Need, Outcome, check, cinspect, finish, repository, run, same, test, test_with,
};

pub fn trials() -> Vec<Trial> {
    vec![
        test("docs::manual_pages_are_up_to_date", pages),
        test("docs::completion_scripts_are_up_to_date", scripts),
        test("docs::every_command_has_descriptions_and_examples", described),
        test_with(Need::Shells, "docs::completions_are_printed_for_every_shell", printed),
        test("docs::the_readme_names_every_command", readme),
        test("docs::documents_name_files_that_exist", documents),
        test("docs::results_of_machines_stay_until_the_check_runs_again", results_stay),
        test("docs::each_promise_of_the_threat_model_has_a_test", threat_model),
        test("docs::help_is_short_with_examples_first_and_help_cmd_is_long", help),
        test_with(Need::Manual, "docs::manual_pages_have_no_warnings_in_mandoc_and_man", clean),
    ]
}

/// Fails unless the files of a directory are exactly these. With `UPDATE` they are written.
fn compare(dir: &str, wanted: &[(String, Vec<u8>)]) -> Outcome {
    let dir = repository().join(dir);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if std::env::var_os("UPDATE").is_some() {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        for (file, bytes) in wanted {
            std::fs::write(dir.join(file), bytes)?;
        }
    }
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&dir)?.flatten() {
        let file = name(&entry.path());
        if !wanted.iter().any(|(wanted, _)| *wanted == file) {
            wrong.push(format!("{file} is not generated from any command"));
        }
    }
    for (file, bytes) in wanted {
        if std::fs::read(dir.join(file)).unwrap_or_default() != *bytes {
            wrong.push(format!("{file} is out of date"));
        }
    }
    check(wrong.is_empty(), format!("{}; UPDATE=1 cargo test writes them", wrong.join(", ")))
}

fn pages() -> Outcome {
    let pages = manual_pages();
    compare("man", &pages)
}

fn scripts() -> Outcome {
    let scripts: Vec<(String, Vec<u8>)> = Shell::value_variants()
        .iter()
        .map(|shell| (shell.file_name("cinspect"), script(*shell).into_bytes()))
        .collect();
    compare("completions", &scripts)
}

fn described() -> Outcome {
    let mut wrong = Vec::new();
    for command in COMMANDS {
        let clap = command.clap();
        if clap.get_about().is_none() || command.examples.is_empty() {
            wrong.push(format!("{} lacks a description or an example", command.name));
        }
        for argument in clap.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if argument.get_help().is_none() {
                wrong.push(format!("{} {} is not described", command.name, argument.get_id()));
            }
        }
        for (line, _) in command.examples {
            let known =
                line.starts_with("cinspect ") && line.split(' ').any(|word| word == command.name);
            if !known {
                wrong.push(format!("`{line}` is not an example of {}", command.name));
            }
        }
    }
    let mut names: Vec<&str> =
        COMMANDS.iter().flat_map(|c| c.aliases.iter().copied().chain([c.name])).collect();
    names.sort_unstable();
    let before = names.len();
    names.dedup();
    check(wrong.is_empty() && names.len() == before, wrong.join("\n"))
}

fn printed() -> Outcome {
    for shell in Shell::value_variants() {
        let out = run(&["completions", &shell.to_string()]).expect(0)?.out;
        // Scripts for shells with live values call the program; the others contain every command.
        let calls = matches!(shell, Shell::Bash | Shell::Zsh | Shell::Fish);
        same((shell, out.contains("CINSPECT_COMPLETE")), (shell, calls))?;
        let missing: Vec<&str> =
            COMMANDS.iter().map(|c| c.name).filter(|name| !calls && !out.contains(name)).collect();
        check(missing.is_empty(), format!("the script for {shell} lacks {missing:?}"))?;
        if calls {
            let syntax = finish({
                let mut check = Command::new(shell.to_string());
                check.args(["-n", "/dev/stdin"]).stdin(stdin_with(&out)?);
                check
            });
            same((shell, syntax.code, syntax.err.as_str()), (shell, 0, ""))?;
        }
    }
    Ok(())
}

/// Returns a file with `text` as standard input.
fn stdin_with(text: &str) -> std::io::Result<Stdio> {
    let mut file = tempfile::tempfile()?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

/// The README names every command, and its code blocks use only options that exist.
fn readme() -> Outcome {
    let text = std::fs::read_to_string(repository().join("README.md"))?;
    let code: Vec<&str> = text.split("```").skip(1).step_by(2).flat_map(str::lines).collect();
    let names = COMMANDS.iter().map(|command| command.name);
    let missing: Vec<&str> =
        names.filter(|name| !text.contains(&format!("cinspect {name}"))).collect();
    let mut wrong = Vec::new();
    for line in code {
        let line = line.trim_start_matches("# ");
        let Some((_, call)) = line.split_once("cinspect ") else { continue };
        let words: Vec<&str> = call.split_whitespace().take_while(|word| *word != "--").collect();
        let Some(command) = COMMANDS.iter().find(|command| words.contains(&command.name)) else {
            continue;
        };
        let parser = command.clap();
        let known: Vec<String> =
            parser.get_arguments().filter_map(|a| a.get_long()).map(|l| format!("--{l}")).collect();
        for word in words.iter().filter(|word| word.starts_with("--")) {
            let option = word.split('=').next().unwrap_or(word);
            if !known.iter().any(|known| known == option)
                && !["--json", "--verbose", "--color", "--host-root"].contains(&option)
            {
                wrong.push(format!("`{line}`: no option {option}"));
            }
        }
    }
    check(missing.is_empty(), format!("the README lacks {missing:?}"))?;
    check(wrong.is_empty(), wrong.join("\n"))
}

/// Checks every path in backticks and every relative link of the documents.
fn documents() -> Outcome {
    const TOP: [&str; 5] = ["src/", "tests/", "contrib/", "benches/", "docs/"];
    let mut files: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "contrib/fleet/README.md"].map(Into::into).into();
    for entry in std::fs::read_dir(repository().join("docs"))? {
        files.push(Path::new("docs").join(entry?.file_name()));
    }
    let (mut count, mut wrong) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(repository().join(&file))?;
        let code = text.split('`').skip(1).step_by(2);
        let code = code.filter(|code| TOP.iter().any(|top| code.starts_with(top)));
        let code = code.filter(|code| !code.contains([' ', '*', '\n'])).map(Into::into);
        let directory = file.parent().unwrap_or(Path::new(""));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://")).map(|link| directory.join(link));
        for path in code.chain(links) {
            count += 1;
            if !repository().join(&path).exists() {
                wrong.push(format!("{} names {}", file.display(), path.display()));
            }
        }
    }
    check(count > 50 && wrong.is_empty(), wrong.join("\n"))
}

/// Writes the results of a part of the checks, and then of an engine that does not start, over earlier ones.
fn results_stay() -> Outcome {
    const EARLIER: &str = "\
        docker\ta\tok\t\ndocker\tb\tok\t\ndocker\tc\tfailed\twas wrong\n\
        lxc\ta\tfailed\twas wrong\npodman\ta\tfailed\twas wrong\npodman\told\tfailed\tno longer there\n";
    const LATER: &str = "\
        docker\ta\tnot-run\t\ndocker\tb\tnot-run\t\ndocker\tc\tnot-run\t\ndocker\tb\tok\t\n\
        lxc\t-\tcould-not\tdoes not start\npodman\ta\tnot-run\t\npodman\ta\tok\t\n";
    let dir = tempfile::tempdir()?;
    let document = dir.path().join("tested-on.md");
    for (commit, results) in [("aaa", EARLIER), ("bbb", LATER)] {
        let file = dir.path().join(commit);
        std::fs::write(&file, results)?;
        let mut write = Command::new(repository().join("tests/vm/write-results"));
        write.arg("sid").arg(&file).args(["kvm", commit]).arg(&document);
        finish({
            write.args(["docker incus lxc podman", "sid"]);
            write
        })
        .expect(0)?;
    }
    let text = std::fs::read_to_string(document)?;
    let lines = text.lines().skip_while(|line| !line.starts_with("|--"));
    let lines = lines.skip(1).filter(|line| !line.is_empty());
    let date = regex::Regex::new(r"\d{4}-\d\d-\d\d, ")?;
    let lines: Vec<_> = lines.map(|line| date.replace(line, "").into_owned()).collect();
    let wanted = [
        "| docker | - | 3 | **1** | 0 | 0 | aaa |",
        "| docker | - | 1 | 0 | 0 | 2 | bbb |",
        "| lxc | - | 1 | **1** | 0 | 0 | aaa |",
        "| lxc | - | 0 | 0 | 1 | 0 | bbb |",
        "| podman | - | 2 | **2** | 0 | 0 | aaa |",
        "| podman | - | 1 | 0 | 0 | 0 | bbb |",
        "- **failed** docker: `c`: was wrong",
        "- **failed** lxc: `a`: was wrong",
        "- could not run lxc: does not start",
        "- not run yet: incus",
    ];
    same(lines, wanted.map(str::to_owned).to_vec())
}

fn help() -> Outcome {
    let help_of = |arguments: &[&str]| -> Result<String, libtest_mimic::Failed> {
        let mut command = cinspect(arguments);
        command.env("COLUMNS", "80");
        Ok(finish(command).expect(0)?.out)
    };
    for command in COMMANDS.iter().map(|command| command.name) {
        let (short, long) = (help_of(&[command, "--help"])?, help_of(&["help", command])?);
        let place = |text: &str, word: &str| text.find(word).unwrap_or(usize::MAX);
        for text in [&short, &long] {
            let (examples, usage) =
                (place(text, "\nExamples:\n  cinspect "), place(text, "\nUsage:"));
            check(examples < usage && usage < place(text, "\nOptions:"), text)?;
        }
        same((command, help_of(&[command, "-h"])?), (command, short.clone()))?;
        check(short.lines().count() < long.lines().count(), &short)?;
        check(short.contains(&format!("more: `cinspect help {command}`")), short)?;
    }
    Ok(())
}

/// Neither formatter gives a warning or a style message, and every page has its sections.
fn clean() -> Outcome {
    let mut messages = String::new();
    let pages = std::fs::read_dir(repository().join("man"))?;
    let mut count = 0;
    for page in pages.flatten().map(|entry| entry.path()) {
        count += 1;
        let mut lint = Command::new("mandoc");
        let lint = finish({
            lint.args(["-Tlint"]).arg(&page);
            lint
        });
        let mut man = Command::new("man");
        let man = finish({
            man.args(["--warnings", "-l"]).arg(&page);
            man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").stdin(Stdio::null());
            man
        });
        messages.push_str(&format!("{}{}{}", lint.out, lint.err, man.err));
        let name = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        check(man.code == 0 && man.out.contains("SEE ALSO"), format!("man cannot show {name}"))?;
        check(!man.out.lines().any(|line| line.trim_start().starts_with('@')), &man.out)?;
        for section in ["NAME", "SYNOPSIS", "EXIT STATUS", "FILES", "EXAMPLES"] {
            let is_text = page.extension().is_some_and(|number| number == "7");
            let wanted = !(is_text && ["SYNOPSIS", "EXIT STATUS"].contains(&section));
            let has = man.out.lines().any(|line| line == section);
            check(has || !wanted, format!("{name} has no {section}"))?;
        }
    }
    same(count, COMMANDS.len() + 2)?;
    check(messages.is_empty(), messages)
}

/// Each row of a table of promises names tests, and all of them exist.
fn threat_model() -> Outcome {
    let mut list = Command::new(std::env::current_exe()?);
    list.arg("--list").stdin(Stdio::null()).env_remove("CINSPECT_TEST_REPORT");
    let listed = finish(list).expect(0)?.out;
    let tests: Vec<&str> =
        listed.lines().filter_map(|line| line.split([' ', ',']).next()).collect();
    let tests: Vec<&str> = tests.iter().map(|name| name.trim_end_matches(':')).collect();
    let text = std::fs::read_to_string(repository().join("docs/threat-model.md"))?;
    let mut wrong = Vec::new();
    let mut promises = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"))
    {
        promises += 1;
        let named: Vec<&str> =
            row.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
        if named.is_empty() {
            wrong.push(format!("no test: {row}"));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(name));
        wrong.extend(missing.map(|name| format!("no such test: {name}")));
    }
    check(wrong.is_empty(), wrong.join("\n"))?;
    check(promises > 20, format!("only {promises} promises"))
}
