use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight_network::{Model, PublicKey};

/// Arguments of `resight verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight verify resnet50.resight.tar --key resight.pub")]
pub(crate) struct Arguments {
    /// The model file.
    model: PathBuf,
    /// The public key, made by `resight keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let key = PublicKey::read(&self.key)?;
        Model::load_signed(&self.model, Some(&key))?;
        println!("{}: signed by key {}", self.model.display(), key.fingerprint());
        Ok(())
    }
}
