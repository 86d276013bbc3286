//! The `mailweir` program: arguments, logging, exit status. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailweir::cli::main()
}
