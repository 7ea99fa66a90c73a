//! A tour of `ls`, `ps` and `signal` on a container that this program makes: it prints each command line
//! before its output. Needs no engine, and no root where unprivileged user namespaces are allowed.
//!
//! ```sh
//! cargo run --release --example tour
//! ```

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::process::{Command, ExitCode};

use harness::Container;

/// An init that handles TERM, a child that handles it too and has a child that does not, one that
/// ignores it and one that blocks it.
const SPEC: &str = "\
init handle=TERM,CHLD
> web handle=TERM,HUP
> > worker
> ignorer ignore=TERM
> blocker block=TERM";

fn main() -> ExitCode {
    harness::run_helper();
    let arguments: Vec<String> = std::env::args().collect();
    // The library is linked into this program: with `cinspect …` it runs the command line.
    if arguments.get(1).map(String::as_str) == Some("cinspect") {
        return cinspect::run(&arguments[1..]);
    }
    match tour() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: {error}");
            eprintln!("hint: needs root, or unprivileged user namespaces (user_namespaces(7))");
            ExitCode::FAILURE
        }
    }
}

fn tour() -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    let container = Container::start(&program, SPEC)?;
    let name = format!("pid:{}", container.init);
    let pid = |name: &str| container.pids.get(name).map_or_else(String::new, i32::to_string);
    println!(
        "A container of namespaces only, whose init is process {} of the host.\n",
        container.init
    );
    show(&["ls"])?;
    show(&["ps", &name])?;
    println!("Only `web` and the init have a handler for TERM: see the CAUGHT column.\n");
    show(&["signal", &name, "TERM", "--all", "--dry-run"])?;
    show(&["signal", &name, "TERM", "--require-handler", "--pid", &pid("worker")])?;
    show(&["signal", &name, "TERM", "--pid", &pid("web")])?;
    container.wait_to_receive("web TERM 0");
    println!("Signals that the processes received: {}\n", container.received().join(", "));
    show(&["signal", &name, "TERM", "--tree", &pid("web"), "--kill-after", "500ms"])?;
    container.wait_for_exit("web");
    show(&["ps", &name, "-o", "pid,hpid,state,blocked,ignored,caught,pending,command"])?;
    Ok(())
}

/// Prints a command line and runs it.
fn show(arguments: &[&str]) -> std::io::Result<()> {
    println!("$ cinspect {}", arguments.join(" "));
    let status = Command::new(std::env::current_exe()?).arg("cinspect").args(arguments).status()?;
    if !status.success() {
        println!("(status {})", status.code().unwrap_or(-1));
    }
    println!();
    Ok(())
}
