use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight_base::console::print_line;
use resight_model_file::PublicKey;
use resight_runtime::Model;

use super::sign::is_program;

/// Arguments of `resight verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight verify resnet50.resight.tar --key resight.pub
  resight verify target/aarch64-unknown-linux-gnu/firmware/resightd --key resight.pub")]
pub(crate) struct Arguments {
    /// The model file, or the program, whose signature is NAME.sig beside it.
    file: PathBuf,
    /// The public key, made by `resight keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let key = PublicKey::read(&self.key)?;
        if is_program(&self.file)? {
            key.check_program(&self.file)?;
        } else {
            Model::load_signed(&self.file, Some(&key))?;
        }
        print_line(format_args!("{}: signed by key {}", self.file.display(), key.fingerprint()))?;
        Ok(())
    }
}
