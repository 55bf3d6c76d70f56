use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight_base::console::print_line;
use resight_base::files::read_bounded;
use resight_model_file::{ModelFileError, PublicKey};
use resight_runtime::Model;

use super::sign::{is_program, release_list};

/// Largest signature, in bytes.
const MAX_SIGNATURE: u64 = 4 << 10;

/// Arguments of `resight verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight verify resnet50.resight.tar --key resight.pub
  resight verify target/aarch64-unknown-linux-gnu/firmware/resightd --key resight.pub
  resight verify SHA256SUMS --key resight.pub")]
pub(crate) struct Arguments {
    /// The model file, or the program or the list of a release, whose signature is NAME.sig beside it.
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
        } else if let Some(list) = release_list(&self.file)? {
            let beside = PathBuf::from(format!("{}.sig", self.file.display()));
            let signature = read_bounded(&beside, MAX_SIGNATURE, "too large for a signature")?;
            let checked = key.check_release(&list, &signature);
            let file = self.file.display().to_string();
            checked.map_err(|cause| ModelFileError::Signature { file, cause })?;
        } else {
            Model::load_signed(&self.file, Some(&key))?;
        }
        print_line(format_args!("{}: signed by key {}", self.file.display(), key.fingerprint()))?;
        Ok(())
    }
}
