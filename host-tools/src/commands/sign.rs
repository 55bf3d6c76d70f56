use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use resight_network::{Archive, Model, PrivateKey};

/// Arguments of `resight sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight sign resnet50.resight.tar --key resight.key

The model file is replaced by the same with the signature; one that it had is gone. The same
file and key always give the same bytes.")]
pub(crate) struct Arguments {
    /// The model file.
    model: PathBuf,
    /// The private key, made by `resight keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let key = PrivateKey::read(&self.key)?;
        let file = self.model.display().to_string();
        let archive = Archive::read(&self.model)?.without_signature();
        // Nobody should vouch for what no board can load.
        Model::from_archive(&file, &archive)?;
        key.sign_model(&archive).write(&self.model)?;
        println!("{file}: signed by key {}", key.public().fingerprint());
        Ok(())
    }
}
