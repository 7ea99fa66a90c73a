//! argv in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    cinspect::run(std::env::args_os())
}
