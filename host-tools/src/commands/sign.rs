use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use resight_base::console::print_line;
use resight_base::files::write_atomically;
use resight_kernels::Sequential;
use resight_model_file::{Archive, PrivateKey};
use resight_runtime::{Model, Target};

/// Arguments of `resight sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight sign resnet50.resight.tar --key resight.key
  resight sign target/aarch64-unknown-linux-gnu/firmware/resightd --key resight.key
  resight sign SHA256SUMS --key resight.key

A model file must load, compile and reproduce its golden vectors here; it is replaced by the same with
the signature. A program keeps its bytes, and so does the list of a release, as `sha256sum` writes it with a
line `release.number` (`resight deploy --key` signs its own): the signature goes into a file beside it,
NAME.sig. One that was there is gone; the same file and key always give the same signature.")]
pub(crate) struct Arguments {
    /// The model file, the program, or the list of a release.
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
        if let Some(list) = release_list(&self.file)? {
            let signature = format!("{file}.sig");
            let json = key.sign_release(&list);
            write_atomically(Path::new(&signature), |file| file.write_all(&json))?;
            print_line(format_args!("{file}: signed by key {fingerprint}, in {signature}"))?;
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

/// Bytes of the list of a release that a board reads.
const MAX_LIST: u64 = 64 << 10;

/// The list of a release: lines of `sha256sum`, one of them of its number. `None` of another file.
///
/// # Errors
/// A file that cannot be read, and a list without a number.
pub(crate) fn release_list(path: &Path) -> Result<Option<Vec<u8>>> {
    let cannot_read = || format!("{}: cannot read", path.display());
    if !fs::metadata(path).with_context(cannot_read)?.is_file() {
        return Ok(None);
    }
    let mut list = vec![];
    File::open(path).and_then(|file| file.take(MAX_LIST).read_to_end(&mut list)).with_context(cannot_read)?;
    let Ok(text) = str::from_utf8(&list) else { return Ok(None) };
    let is_sum = |line: &str| {
        let sum = line.split_once("  ").map_or("", |(sum, _)| sum);
        sum.len() == 64 && sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if text.is_empty() || !text.lines().all(is_sum) {
        return Ok(None);
    }
    ensure!(
        text.lines().any(|line| line.ends_with("  release.number")),
        "{}: no file `release.number` in this list: its number, which must grow, keeps older releases away",
        path.display()
    );
    Ok(Some(list))
}
