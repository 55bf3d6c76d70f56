use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;
use resight_base::console::print;

/// Arguments of `resight completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight completions bash > ~/.local/share/bash-completion/completions/resight")]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

impl Arguments {
    pub(crate) fn run(self, mut command: Command) -> Result<()> {
        let mut text = vec![];
        // It panics where it cannot write: memory always can.
        clap_complete::generate(self.shell, &mut command, "resight", &mut text);
        print(format_args!("{}", String::from_utf8(text)?))?;
        Ok(())
    }
}
