use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use resight_base::console::print_line;
use resight_kernels::Sequential;
use resight_model_file::{Archive, PrivateKey};
use resight_runtime::{Model, Target};

/// Arguments of `resight sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight sign resnet50.resight.tar --key resight.key
  resight sign target/aarch64-unknown-linux-gnu/firmware/resightd --key resight.key

A model file must load, compile and reproduce its golden vectors here; it is replaced by the same with
the signature. A program keeps its bytes: its signature
goes into a file beside it, NAME.sig. One that was there is gone; the same file and key always
give the same signature.")]
pub(crate) struct Arguments {
    /// The model file, or the program.
    file: PathBuf,
    /// The private key, made by `resight keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let key = PrivateKey::read(&self.key)?;
        let file = self.file.display().to_string();
        let fingerprint = key.public().fingerprint();
        if is_program(&self.file)? {
            let signature = key.sign_program(&self.file)?;
            print_line(format_args!("{file}: signed by key {fingerprint}, in {}", signature.display()))?;
            return Ok(());
        }
        let archive = Archive::read(&self.file)?.without_signature();
        // Nobody should vouch for what no board can load, or would never finish to run.
        let model = Model::from_archive(&file, &archive)?;
        let mut program = model.compile(&Target::of_this_machine()?)?;
        model.self_test(&mut program, &Sequential)?;
        key.sign_model(&archive).write(&self.file)?;
        print_line(format_args!("{file}: signed by key {fingerprint}"))?;
        Ok(())
    }
}

/// Whether a file is one that Linux executes, by its first bytes.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn is_program(path: &Path) -> Result<bool> {
    let cannot_read = || format!("{}: cannot read", path.display());
    // Whatever is no regular file is no program, and opening a named pipe would block for ever.
    if !fs::metadata(path).with_context(cannot_read)?.is_file() {
        return Ok(false);
    }
    let mut start = vec![];
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).with_context(cannot_read)?;
    Ok(start == b"\x7fELF" || start.starts_with(b"#!"))
}
