//! The `resightd` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    resightd::main(std::env::args_os())
}
