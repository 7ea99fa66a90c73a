//! argv in, exit status out.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cinspect::Allocator = cinspect::Allocator;

fn main() -> ExitCode {
    cinspect::run(std::env::args_os())
}
