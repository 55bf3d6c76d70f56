//! Manual pages and completions, made from the command line's own description when the package
//! is built. The binary on the board does not have this.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Writes `resightd.8` with a page for each subcommand, and completions for three shells, into
/// `folder`, each where a Debian system has it below `/usr/share`.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(mut command: Command, folder: &Path) -> Result<()> {
    let save = |path: &str, content: &[u8]| {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("{}: cannot write", path.display()))
    };
    for (shell, path) in [
        (Shell::Bash, "bash-completion/completions/resightd"),
        (Shell::Zsh, "zsh/vendor-completions/_resightd"),
        (Shell::Fish, "fish/vendor_completions.d/resightd.fish"),
    ] {
        let mut script = vec![];
        clap_complete::generate(shell, &mut command, "resightd", &mut script);
        save(path, &script)?;
    }
    command.build();
    let page = |command: &Command, name: &str| -> Result<()> {
        // Without a date, so that the same source gives the same bytes.
        // clap keeps names for ever, and this process ends when the pages are written.
        let name: &'static str = name.to_owned().leak();
        let man = Man::new(command.clone().name(name).disable_help_subcommand(true))
            .section("8")
            .manual("resight")
            .source(concat!("resightd ", env!("CARGO_PKG_VERSION")));
        let mut text = vec![];
        man.render(&mut text)?;
        save(&format!("man/man8/{name}.8"), &text)
    };
    page(&command, "resightd")?;
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        page(subcommand, &format!("resightd-{}", subcommand.get_name()))?;
    }
    Ok(())
}
