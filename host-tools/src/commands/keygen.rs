use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use resight_base::console::print_line;
use resight_model_file::PrivateKey;

/// Arguments of `resight keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight keygen --output resight

writes resight.key, which signs and stays where it is, and resight.pub, which boards get:
  resight sign resnet50.resight.tar --key resight.key
and in the board's configuration, in [model]: public_key = \"resight.pub\"")]
pub(crate) struct Arguments {
    /// Name of the two files, without .key and .pub. Files that are there are never replaced.
    #[arg(short, long, value_name = "NAME")]
    output: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let named = |extension: &str| {
            let mut name = self.output.clone().into_os_string();
            name.push(extension);
            PathBuf::from(name)
        };
        let (private, public) = (named(".key"), named(".pub"));
        for path in [&private, &public] {
            if path.symlink_metadata().is_ok() {
                bail!("{}: it is there already, and a lost key cannot be made again", path.display());
            }
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the operating system gives no random numbers")?;
        let key = PrivateKey::from_seed(seed);
        create(&private, &key.to_text(), 0o600)?;
        if let Err(error) = create(&public, &key.public().to_text(), 0o644) {
            // Half a pair would stand in the way of the next attempt.
            fs::remove_file(&private).with_context(|| format!("{}: cannot remove", private.display()))?;
            return Err(error);
        }
        print_line(format_args!(
            "{} (keep it here) and {} (for the boards), fingerprint {}",
            private.display(),
            public.display(),
            key.public().fingerprint()
        ))?;
        Ok(())
    }
}

/// Writes a new file down to the disk; it is never open to more than `mode` allows.
fn create(path: &Path, text: &str, mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("{}: cannot write", path.display()))
}
