//! The manual's examples and the README's recipes, run as they are written, on Docker: what people copy
//! from there does what is said of it.

use cinspect::testing::{COMMANDS, ON_SIGNALS};
use libtest_mimic::Failed;
use serde_json::json;

use super::Engine;
use super::setup::Stage;
use crate::support::{Outcome, Run, check, repository, same, wait_until};

/// What is another here than in an example, and what it is here.
type Another<'a> = (&'a str, String);

/// PID 1 with handlers, sleepers from PID 7 to beyond 13, and nginx with its workers.
const WEB: &str = "trap 'exit 0' TERM QUIT; trap : HUP
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13; do sleep 1000 & done
    mkdir -p /usr/local/bin /srv /data /var/log; echo one > /var/log/app.log; echo two > /data/file
    nginx -e stderr -c /shared/nginx.conf & wait; wait";
const WEBS_PROCESSES: usize = 17;
const DB: &str = "trap 'exit 0' TERM; mkdir -p /data; sleep 1000 & wait";

/// Examples that do not simply succeed and print something: how each is run, the status it may leave
/// with, and what it says.
const OTHERWISE: &[(&str, &str, i32, &str)] = &[
    ("cinspect exec web", "echo 'echo inside' | cinspect exec web", 0, "inside"),
    (
        "cinspect exec web --skip mnt -- strace -p 13",
        "cinspect exec web --skip mnt -- timeout 1 strace -p 13",
        124,
        "Process 13 attached",
    ),
    ("cinspect ps --watch web", "timeout -s INT 2 cinspect ps --watch web", 124, "ON TERM"),
    (
        "cinspect completions bash > /etc/bash_completion.d/cinspect",
        "cinspect completions bash > root/etc/bash_completion.d/cinspect && cat root/etc/bash_completion.d/cinspect",
        0,
        "complete",
    ),
    (
        "cinspect completions zsh > /usr/local/share/zsh/site-functions/_cinspect",
        "cinspect completions zsh > root/usr/local/share/zsh/site-functions/_cinspect && cat root/usr/local/share/zsh/site-functions/_cinspect",
        0,
        "#compdef",
    ),
    (
        "cinspect completions fish > ~/.config/fish/completions/cinspect.fish",
        "cinspect completions fish > ~/.config/fish/completions/cinspect.fish && cat ~/.config/fish/completions/cinspect.fish",
        0,
        "complete",
    ),
];

/// Every example of the help and of the manual.
pub fn examples(engine: &Engine) -> Outcome {
    let stage = Stage::new(engine)?;
    let all = COMMANDS.iter().flat_map(|command| command.examples).chain(ON_SIGNALS);
    let mut wrong = String::new();
    for (line, what) in all {
        // Those that the last one ended are started again.
        if stage.processes("web").len() < WEBS_PROCESSES {
            stage.start("web", &["sh", "-c", WEB], WEBS_PROCESSES, &[7, 13])?;
        }
        if stage.processes("db").len() < 2 {
            stage.start("db", &["sh", "-c", DB], 2, &[])?;
        }
        let init = engine.script(&["init", "web"])?;
        let id = engine.script(&["id", "web"])?;
        let others: &[Another<'_>] = &[("3f2a", id[..12].to_owned()), ("4711", init)];
        let different = OTHERWISE.iter().find(|(example, ..)| example == line);
        let (as_run, code, says) =
            different.map_or((*line, 0, ""), |(_, run, code, says)| (*run, *code, *says));
        let as_run = others
            .iter()
            .fold(as_run.to_owned(), |line, (word, another)| line.replace(word, another));
        let said = stage.sh(&as_run);
        let text = format!("{}{}", said.out, said.err);
        if said.code != code || text.trim().is_empty() || !text.contains(says) {
            wrong.push_str(&format!(
                "$ {line}   # {what}\n{text}(status {}, not {code})\n",
                said.code
            ));
        }
    }
    for (example, ..) in OTHERWISE {
        let is_one = COMMANDS.iter().any(|c| c.examples.iter().any(|(line, _)| line == example));
        check(is_one, format!("`{example}` is no example any more"))?;
    }
    check(wrong.is_empty(), wrong)
}

/// A recipe: its heading in the README, what `web` is there, and what has to come of its lines.
struct Recipe {
    heading: &'static str,
    web: &'static [&'static str],
    processes: usize,
    pids: &'static [i64],
    holds: fn(&Stage<'_>, &[Run]) -> Outcome,
}

const SHELL_IN_FRONT: &[&str] = &["sh", "-c", "nginx -e stderr -c /shared/nginx.conf; true"];
const NGINX_ALONE: &[&str] = &["nginx", "-e", "stderr", "-c", "/shared/nginx.conf"];
const PARENT_AND_CHILD: &[&str] = &[
    "sh",
    "-c",
    "trap 'exit 0' TERM; sh -c \"trap 'echo > /shared/heard; exit 0' TERM; echo > /shared/ready; while :; do sleep 0.1; done\" & wait",
];

/// THE TABLE, in the order of the README.
const RECIPES: &[Recipe] = &[
    Recipe {
        heading: "A stop takes the full ten seconds",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |stage, runs| {
            check(runs[0].out.starts_with("problem"), &runs[0].out)?;
            check(runs[0].out.contains("exec form"), &runs[0].out)?;
            check(
                runs[1].out.contains("discarded") && runs[1].out.contains("handled"),
                &runs[1].out,
            )?;
            check(runs[2].out.contains("discarded"), &runs[2].out)?;
            same(stage.processes("web").len(), 4)
        },
    },
    Recipe {
        heading: "PID 1 is a shell, and it has to stop cleanly now",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |stage, runs| {
            check(runs[0].out.contains("nginx") && !runs[0].out.contains(" sh "), &runs[0].out)?;
            check(runs[1].out.contains("exited"), &runs[1].out)?;
            check(wait_until(|| stage.processes("web").is_empty()), "the shell has not left")
        },
    },
    Recipe {
        heading: "Children are killed without warning",
        web: PARENT_AND_CHILD,
        processes: 3,
        pids: &[],
        holds: |stage, _| check(stage.has("heard"), "the child was not told"),
    },
    Recipe {
        heading: "Let requests finish",
        web: NGINX_ALONE,
        processes: 3,
        pids: &[],
        holds: |stage, runs| {
            check(runs[0].out.contains("QUIT"), &runs[0].out)?;
            let events = runs[0].out.replace("(no SIGKILL needed)", "");
            check(!events.contains("TERM") && !events.contains("KILL"), &runs[0].out)?;
            same(stage.processes("web").len(), 0)
        },
    },
    Recipe {
        heading: "One worker, not all of them",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |stage, runs| {
            check(runs[0].out.contains("exited"), &runs[0].out)?;
            // nginx starts another in its place.
            let pids =
                || -> Vec<_> { stage.processes("web").iter().map(|p| p["pid"].clone()).collect() };
            check(
                wait_until(|| pids().len() == 4 && !pids().contains(&json!(8))),
                format!("{:?}", pids()),
            )
        },
    },
    Recipe {
        heading: "Reload, only if there is a handler",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |stage, runs| {
            check(runs[0].out.contains("HUP"), &runs[0].out)?;
            // Its workers are new ones.
            let old = || stage.processes("web").iter().any(|p| p["pid"] == json!(8));
            check(wait_until(|| !old()), "nginx did not read its configuration")
        },
    },
    Recipe {
        heading: "The daemon hangs",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |stage, runs| {
            check(runs[0].out.contains("web"), &runs[0].out)?;
            check(runs[1].out.contains("uid=0(root)"), &runs[1].out)?;
            check(stage.has("passwd"), "nothing was copied")?;
            check(runs[3].out.contains("KILL"), &runs[3].out)?;
            same(stage.processes("web").len(), 0)
        },
    },
    Recipe {
        heading: "No shell and no tools in the image",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |_, runs| {
            check(runs[0].out.contains("0.0.0.0:8080"), &runs[0].out)?;
            check(runs[1].err.contains("Process 7 attached"), &runs[1].err)
        },
    },
    Recipe {
        heading: "Replace a program in a running container, copy logs out",
        web: &[
            "sh",
            "-c",
            "mkdir -p /usr/local/bin; echo 1 > /var/log/a.log; echo 2 > /var/log/b.log; sleep 1000; true",
        ],
        processes: 2,
        pids: &[],
        holds: |stage, runs| {
            same(runs[1].out.as_str(), "the new one\n")?;
            check(stage.has("logs/a.log") && stage.has("logs/b.log"), "a log is not there")
        },
    },
    Recipe {
        heading: "A host process eats CPU: which container?",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |_, runs| {
            let first = runs[0].out.lines().next().unwrap_or_default();
            check(first.contains("docker:web"), &runs[0].out)
        },
    },
];

/// The recipes in the README: heading and the lines of the block below it.
fn written() -> Result<Vec<(String, Vec<String>)>, Failed> {
    let text = std::fs::read_to_string(repository().join("README.md"))?;
    let (_, rest) = text.split_once("\n## Recipes\n").ok_or("the README has no recipes")?;
    let part = rest.split("\n## ").next().unwrap_or_default();
    let recipe = |part: &str| {
        let (heading, rest) = part.split_once('\n').unwrap_or((part, ""));
        let block = rest.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
        let lines = block.unwrap_or_default().lines().map(str::to_owned).collect();
        (heading.to_owned(), lines)
    };
    Ok(part.split("\n### ").skip(1).map(recipe).collect())
}

/// Each recipe of the README.
pub fn recipes(engine: &Engine) -> Outcome {
    let written = written()?;
    let ours: Vec<&str> = RECIPES.iter().map(|recipe| recipe.heading).collect();
    let theirs: Vec<&str> = written.iter().map(|(heading, _)| heading.as_str()).collect();
    same(theirs, ours)?;
    for (recipe, (heading, lines)) in RECIPES.iter().zip(&written) {
        let stage = Stage::new(engine)?;
        stage.start("web", recipe.web, recipe.processes, recipe.pids)?;
        if recipe.web == PARENT_AND_CHILD {
            check(wait_until(|| stage.has("ready")), "the child does not get ready")?;
        }
        let init = engine.script(&["init", "web"])?;
        // What hangs is held still, whatever comes of the recipe.
        let _hung = (*heading == "The daemon hangs").then(|| Hung::new(engine)).transpose()?;
        let mut runs = Vec::new();
        for line in lines {
            let said = stage.sh(&line.replace("4711", &init));
            // strace is ended by its timeout.
            let code = if line.contains("timeout") { 124 } else { 0 };
            runs.push(said.expect(code).map_err(|failed| {
                format!("{heading}: {line}: {}", failed.message().unwrap_or_default())
            })?);
        }
        (recipe.holds)(&stage, &runs)
            .map_err(|failed| format!("{heading}: {}", failed.message().unwrap_or_default()))?;
    }
    Ok(())
}

/// Daemons that do not answer, until this goes.
struct Hung(Vec<String>);

impl Hung {
    fn new(engine: &Engine) -> Result<Self, Failed> {
        let pids: Vec<String> =
            engine.script(&["daemons"])?.split_whitespace().map(str::to_owned).collect();
        check(!pids.is_empty(), "no daemon to be held")?;
        let hung = Self(pids);
        hung.tell("-STOP");
        Ok(hung)
    }

    fn tell(&self, signal: &str) {
        let _ = std::process::Command::new("kill").arg(signal).args(&self.0).status();
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.tell("-CONT");
    }
}
