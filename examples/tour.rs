//! The main job on a container it makes by itself: the process tree of the situation this tool was
//! made for, with `ls`, `ps` and `signal` on it, each command line before its output. Needs no
//! engine, and no root where user namespaces are allowed.
//!
//! ```sh
//! cargo run --release --example tour
//! ```

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::process::{Command, ExitCode};
use std::time::Duration;

use harness::Container;

/// An init that handles TERM, a child that handles it too and has a child that does not, one that
/// ignores it and one that blocks it.
const CAST: &str = "\
init handle=TERM,CHLD
> web handle=TERM,HUP
> > worker
> deaf ignore=TERM
> busy block=TERM";

fn main() -> ExitCode {
    harness::run_helper();
    let arguments: Vec<String> = std::env::args().collect();
    // The library is in this program: as `cinspect …` it is the tool itself.
    if arguments.get(1).map(String::as_str) == Some("cinspect") {
        return cinspect::run(&arguments[1..]);
    }
    match tour() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: {error}");
            eprintln!("hint: it takes root, or user namespaces for everybody (user_namespaces(7))");
            ExitCode::FAILURE
        }
    }
}

fn tour() -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    let container = Container::start(&program, CAST)?;
    let name = format!("pid:{}", container.init);
    let inside = |role: &str| container.pids.get(role).map_or_else(String::new, i32::to_string);
    println!(
        "A container of namespaces alone runs; its init is process {} here.\n",
        container.init
    );
    show(&["ls"])?;
    show(&["ps", &name])?;
    println!("Nobody but `web` and the init has a handler for TERM, as the CAUGHT column says.\n");
    show(&["signal", &name, "TERM", "--all", "--dry-run"])?;
    show(&["signal", &name, "TERM", "--require-handler", "--pid", &inside("worker")])?;
    show(&["signal", &name, "TERM", "--pid", &inside("web")])?;
    container.wait_to_receive("web TERM 0");
    println!("What the processes heard: {}\n", container.received().join(", "));
    show(&["signal", &name, "TERM", "--tree", &inside("web"), "--kill-after", "500ms"])?;
    std::thread::sleep(Duration::from_millis(100));
    show(&["ps", &name, "-o", "pid,hpid,s,blocked,ignored,caught,pending,command"])?;
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
