//! `resight resightd`: the service within this program.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

/// The command by which this program is the service. It is linked in, because cargo builds only the
/// programs of the package that it is asked for: `cargo run -p resight -- demo` would find no
/// `resightd` beside it, or one of another day.
pub(crate) const SERVICE: &str = "resightd";

/// Arguments of `resight resightd`.
#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl ServiceArguments {
    #[cfg(target_os = "linux")]
    pub(crate) fn run(self) -> ExitCode {
        resightd::main(std::iter::once(SERVICE.into()).chain(self.arguments))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn run(self) -> ExitCode {
        resight_base::console::complain(format_args!(
            "resight: {SERVICE} {:?}: it runs on Linux",
            self.arguments
        ));
        ExitCode::FAILURE
    }
}
