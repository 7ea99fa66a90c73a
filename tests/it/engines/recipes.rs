//! The manual's examples and the README's recipes, run verbatim on Docker: a command line that is copied
//! from there does what its description says.

use cinspect::testing::{COMMANDS, ON_SIGNALS};
use libtest_mimic::Failed;
use serde_json::json;

use super::Engine;
use super::setup::Setup;
use crate::support::{Outcome, Run, check, repository, same, wait_until};

/// A word of an example, and its value on this host.
type Substitution<'a> = (&'a str, String);

/// PID 1 with handlers, sleeping processes from PID 7 to beyond 13, and nginx with its workers.
const WEB: &str = "trap 'exit 0' TERM QUIT; trap : HUP; echo started
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13; do sleep 1000 & done
    mkdir -p /usr/local/bin /srv /data /var/log; echo one > /var/log/app.log; echo two > /data/file
    nginx -e stderr -c /shared/nginx.conf & wait; wait";
const WEBS_PROCESSES: usize = 17;
const DB: &str = "trap 'exit 0' TERM; mkdir -p /data; sleep 1000 & wait";

/// Examples that are run in another way, or do not exit with 0: the command line, the exit status and a part
/// of the output.
const SPECIAL_EXAMPLES: &[(&str, &str, i32, &str)] = &[
    // It depends on what else runs here.
    ("cinspect doctor", "cinspect doctor --exit-zero", 0, "container"),
    ("cinspect exec web", "echo 'echo inside' | cinspect exec web", 0, "inside"),
    ("cinspect exec --tools web", "echo 'echo inside' | cinspect exec --tools web", 0, "inside"),
    (
        "cinspect exec web --skip mnt -- strace -p 13",
        "cinspect exec web --skip mnt -- timeout 10 strace -p 13",
        124,
        "Process 13 attached",
    ),
    (
        "cinspect logs -f -n 100 web",
        "interrupt_after started cinspect logs -f -n 100 web",
        0,
        "started",
    ),
    ("cinspect trace web", "interrupt_after tracing cinspect trace web", 0, "tracing docker:web"),
    (
        "cinspect trace web TERM KILL",
        "interrupt_after tracing cinspect trace web TERM KILL",
        0,
        "tracing docker:web",
    ),
    (
        "cinspect trace --all KILL --for 1h",
        "interrupt_after tracing cinspect trace --all KILL --for 1h",
        0,
        "tracing the whole host",
    ),
    (
        "cinspect trace --label app=shop",
        "interrupt_after tracing cinspect trace --label app=shop",
        0,
        "tracing",
    ),
    (
        "cinspect --json trace web db",
        "interrupt_after tracing cinspect --json trace web db",
        0,
        "\"end\"",
    ),
    ("cinspect ps --watch web", "interrupt_after TERM cinspect ps --watch web", 0, "ON TERM"),
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
    let setup = Setup::new(engine)?;
    let all = COMMANDS.iter().flat_map(|command| command.examples).chain(ON_SIGNALS);
    let mut wrong = String::new();
    for (line, description) in all {
        // Containers that the last example has stopped are started again.
        if setup.processes("web").len() < WEBS_PROCESSES {
            setup.start("web", &["sh", "-c", WEB], WEBS_PROCESSES, &[7, 13])?;
        }
        if setup.processes("db").len() < 2 {
            setup.start("db", &["sh", "-c", DB], 2, &[])?;
        }
        let init = engine.script(&["init", "web"])?;
        let id = engine.script(&["id", "web"])?;
        let substitutions: &[Substitution<'_>] = &[("3f2a", id[..12].to_owned()), ("4711", init)];
        let special = SPECIAL_EXAMPLES.iter().find(|(example, ..)| example == line);
        let (command, code, part) =
            special.map_or((*line, 0, ""), |(_, run, code, part)| (*run, *code, *part));
        let command = substitutions
            .iter()
            .fold(command.to_owned(), |line, (word, value)| line.replace(word, value));
        let output = setup.sh(&command);
        let text = format!("{}{}", output.out, output.err);
        if output.code != code || text.trim().is_empty() || !text.contains(part) {
            wrong.push_str(&format!(
                "$ {line}   # {description}\n{text}(status {}, not {code})\n",
                output.code
            ));
        }
    }
    for (example, ..) in SPECIAL_EXAMPLES {
        let exists = COMMANDS.iter().any(|c| c.examples.iter().any(|(line, _)| line == example));
        check(exists, format!("`{example}` is not an example"))?;
    }
    check(wrong.is_empty(), wrong)
}

/// A recipe: its heading in the README, the command and processes of `web`, and a check of the outputs.
struct Recipe {
    heading: &'static str,
    web: &'static [&'static str],
    processes: usize,
    pids: &'static [i64],
    holds: fn(&Setup<'_>, &[Run]) -> Outcome,
}

const SHELL_IN_FRONT: &[&str] = &["sh", "-c", "nginx -e stderr -c /shared/nginx.conf; true"];
const NGINX_ALONE: &[&str] = &["nginx", "-e", "stderr", "-c", "/shared/nginx.conf"];
const PARENT_AND_CHILD: &[&str] = &[
    "sh",
    "-c",
    "trap 'exit 0' TERM; sh -c \"trap 'echo > /shared/received; exit 0' TERM; echo > /shared/ready; while :; do sleep 0.1; done\" & wait",
];

/// The recipes in the order of the README.
const RECIPES: &[Recipe] = &[
    Recipe {
        heading: "A stop takes the full ten seconds",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |setup, runs| {
            check(runs[0].out.starts_with("problem"), &runs[0].out)?;
            check(runs[0].out.contains("exec form"), &runs[0].out)?;
            check(
                runs[1].out.contains("discarded") && runs[1].out.contains("handled"),
                &runs[1].out,
            )?;
            check(runs[2].out.contains("discarded"), &runs[2].out)?;
            same(setup.processes("web").len(), 4)
        },
    },
    Recipe {
        heading: "PID 1 is a shell, and it has to stop cleanly now",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |setup, runs| {
            check(runs[0].out.contains("nginx") && !runs[0].out.contains(" sh "), &runs[0].out)?;
            check(runs[1].out.contains("exited"), &runs[1].out)?;
            check(wait_until(|| setup.processes("web").is_empty()), "the shell has not exited")
        },
    },
    Recipe {
        heading: "Children are killed without warning",
        web: PARENT_AND_CHILD,
        processes: 3,
        pids: &[],
        holds: |setup, _| check(setup.has("received"), "the child was not signalled"),
    },
    Recipe {
        heading: "Let requests finish",
        web: NGINX_ALONE,
        processes: 3,
        pids: &[],
        holds: |setup, runs| {
            check(runs[0].out.contains("QUIT"), &runs[0].out)?;
            let events = runs[0].out.replace("(no SIGKILL needed)", "");
            check(!events.contains("TERM") && !events.contains("KILL"), &runs[0].out)?;
            same(setup.processes("web").len(), 0)
        },
    },
    Recipe {
        heading: "One worker, not all of them",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |setup, runs| {
            check(runs[0].out.contains("exited"), &runs[0].out)?;
            // nginx starts another in its place.
            let pids =
                || -> Vec<_> { setup.processes("web").iter().map(|p| p["pid"].clone()).collect() };
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
        holds: |setup, runs| {
            check(runs[0].out.contains("HUP"), &runs[0].out)?;
            // Its workers are new ones.
            let old = || setup.processes("web").iter().any(|p| p["pid"] == json!(8));
            check(wait_until(|| !old()), "nginx did not read its configuration")
        },
    },
    Recipe {
        heading: "The daemon hangs",
        web: SHELL_IN_FRONT,
        processes: 4,
        pids: &[7, 8],
        holds: |setup, runs| {
            check(runs[0].out.contains("web"), &runs[0].out)?;
            check(runs[1].out.contains("uid=0(root)"), &runs[1].out)?;
            check(setup.has("passwd"), "nothing was copied")?;
            check(runs[3].out.contains("KILL"), &runs[3].out)?;
            same(setup.processes("web").len(), 0)
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
        holds: |setup, runs| {
            same(runs[1].out.as_str(), "the new one\n")?;
            check(setup.has("logs/a.log") && setup.has("logs/b.log"), "a log is missing")
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

/// Reads the recipes of the README: heading and the lines of the block below it.
fn read_recipes() -> Result<Vec<(String, Vec<String>)>, Failed> {
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

/// Runs each recipe of the README.
pub fn recipes(engine: &Engine) -> Outcome {
    let recipes = read_recipes()?;
    let expected: Vec<&str> = RECIPES.iter().map(|recipe| recipe.heading).collect();
    let headings: Vec<&str> = recipes.iter().map(|(heading, _)| heading.as_str()).collect();
    same(headings, expected)?;
    for (recipe, (heading, lines)) in RECIPES.iter().zip(&recipes) {
        let setup = Setup::new(engine)?;
        setup.start("web", recipe.web, recipe.processes, recipe.pids)?;
        if recipe.web == PARENT_AND_CHILD {
            check(wait_until(|| setup.has("ready")), "the child is not ready")?;
        }
        let init = engine.script(&["init", "web"])?;
        // The daemons continue even if the recipe fails.
        let _hung =
            (*heading == "The daemon hangs").then(|| StoppedDaemons::new(engine)).transpose()?;
        let mut runs = Vec::new();
        for line in lines {
            // (Attaching takes its time on a busy machine.)
            let line = line.replace("timeout 2 ", "timeout 10 ");
            let output = setup.sh(&line.replace("4711", &init));
            // strace runs until its timeout.
            let code = match line.as_str() {
                line if line.contains("timeout") => 124,
                // Its `web` has a problem.
                line if line.contains("cinspect doctor") => 8,
                _ => 0,
            };
            runs.push(output.expect(code).map_err(|failed| {
                format!("{heading}: {line}: {}", failed.message().unwrap_or_default())
            })?);
        }
        (recipe.holds)(&setup, &runs)
            .map_err(|failed| format!("{heading}: {}", failed.message().unwrap_or_default()))?;
    }
    Ok(())
}

/// Stopped daemons, which continue when this is dropped.
struct StoppedDaemons(Vec<String>);

impl StoppedDaemons {
    fn new(engine: &Engine) -> Result<Self, Failed> {
        let pids: Vec<String> =
            engine.script(&["daemons"])?.split_whitespace().map(str::to_owned).collect();
        check(!pids.is_empty(), "no daemon runs")?;
        let daemons = Self(pids);
        daemons.signal("-STOP");
        Ok(daemons)
    }

    fn signal(&self, signal: &str) {
        let _ = std::process::Command::new("kill").arg(signal).args(&self.0).status();
    }
}

impl Drop for StoppedDaemons {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}
