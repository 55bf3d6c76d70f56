//! Judges the release that is to replace the running one, by the running one's key.
//!
//! A release whose list of sums is signed is judged as a whole: every file, the unit and the
//! configuration too, and its number, which must not be lower than the running one's, so that an
//! old release with a fault that is known by now cannot be brought again. Whoever runs such a
//! release takes no other any more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use resight_model_file::{Archive, PublicKey, sha256_of_file};

use crate::config::ModelFiles;

/// What `resight deploy` and the package give the files.
const CONFIGURATION: &str = "resightd.toml";
const PROGRAM: &str = "resightd";
const SUMS: &str = "SHA256SUMS";
const SUMS_SIGNATURE: &str = "SHA256SUMS.sig";
const NUMBER: &str = "release.number";

/// Where the package has its program, which the package manager has vouched for.
const PACKAGED: &str = "/usr/bin/resightd";

/// Largest list of sums, signature or number, in bytes.
const MAX_TEXT: u64 = 64 << 10;

/// Most files of a release.
const MAX_FILES: usize = 100;

/// Checks that the key of the configuration `running`, if it names one, is demanded by the release
/// in the folder `release` too and has signed its model and its program, or all of it. Its number must
/// not be lower than the running one's, unless `older` is allowed. Gives what was found.
///
/// # Errors
/// A file that cannot be read or is no regular file, another key or none, a signature that is missing
/// or wrong, a number that is lower.
pub(crate) fn verify(running: &Path, release: &Path, older: bool) -> Result<String> {
    let Some(key) = ModelFiles::load(running)?.public_key else {
        return Ok(format!("{}: no key is demanded", running.display()));
    };
    let key = PublicKey::read(&key)?;
    // First of all, so that nothing below waits for a pipe or reads what is elsewhere.
    let files = regular_files(release)?;
    let next = release.join(CONFIGURATION);
    let named = ModelFiles::load(&next)?;
    for (what, path) in [("file", Some(&named.model)), ("public_key", named.public_key.as_ref())] {
        let Some(path) = path else { continue };
        let name = path.strip_prefix(release).ok().and_then(Path::to_str);
        ensure!(
            name.is_some_and(|name| files.contains_key(name)),
            "{}: model.{what} is {}, which is no file of the release; give it a plain name",
            next.display(),
            path.display()
        );
    }
    let other = named.public_key.as_deref().map(PublicKey::read).transpose()?;
    ensure!(
        other == Some(key),
        "{}: model.public_key is not key {}, which signs the releases of this board; to replace it, use \
         `resight deploy --replace-key`",
        next.display(),
        key.fingerprint()
    );
    let running_folder = running.parent().unwrap_or(Path::new(""));
    let whole = whole(running_folder, release, &files, &key, older)?;
    Archive::read(&named.model)?.check_signature(&key)?;
    let program = release.join(PROGRAM);
    if whole.is_none() && !is_trusted(&program)? {
        key.check_program(&program)?;
    }
    let of = whole.map_or_else(String::new, |number| format!(", number {number}"));
    Ok(format!("{}: signed by key {}{of}", release.display(), key.fingerprint()))
}

/// The files of a release by their names.
///
/// # Errors
/// Anything in it that is no regular file: links lead elsewhere, pipes hang whoever reads them.
fn regular_files(release: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let cannot_read = || format!("{}: cannot read", release.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(release).with_context(cannot_read)? {
        let entry = entry.with_context(cannot_read)?;
        let path = entry.path();
        ensure!(
            entry.file_type().with_context(cannot_read)?.is_file(),
            "{}: no regular file; a release has no other",
            path.display()
        );
        let name = entry.file_name().into_string();
        let Ok(name) = name else { bail!("{}: its name is no text", path.display()) };
        files.insert(name, path);
        ensure!(files.len() <= MAX_FILES, "{}: more than {MAX_FILES} files", release.display());
    }
    Ok(files)
}

/// Judges a release as a whole, if it is signed so; gives its number. `None` if neither it nor the
/// running one is.
fn whole(
    running: &Path,
    release: &Path,
    files: &BTreeMap<String, PathBuf>,
    key: &PublicKey,
    older: bool,
) -> Result<Option<u64>> {
    let before = number_of(running)?;
    if !files.contains_key(SUMS_SIGNATURE) {
        ensure!(
            before.is_none(),
            "{}: the list of its files is not signed, as that of the running release is; `resight deploy --key KEY`",
            release.display()
        );
        return Ok(None);
    }
    let list = release.join(SUMS);
    let sums = small(&list)?;
    let signature = small(&release.join(SUMS_SIGNATURE))?;
    if let Err(cause) = key.check_release(sums.as_bytes(), signature.as_bytes()) {
        bail!("{}: signature: {cause}", list.display());
    }
    let mut listed = BTreeMap::new();
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").with_context(|| format!("{}: {line:?}", list.display()))?;
        ensure!(listed.insert(name, sum).is_none(), "{}: {name} twice", list.display());
    }
    for (name, path) in files.iter().filter(|(name, _)| ![SUMS, SUMS_SIGNATURE].contains(&name.as_str())) {
        let sum = listed.remove(name.as_str());
        let sum = sum.with_context(|| format!("{}: not in the list that was signed", path.display()))?;
        ensure!(sha256_of_file(path)? == sum, "{}: is not what was signed", path.display());
    }
    if let Some(name) = listed.keys().next() {
        bail!("{}: {name} is missing", release.display());
    }
    let number = number_of(release)?.with_context(|| format!("{}: no {NUMBER} in it", release.display()))?;
    ensure!(
        older || before.is_none_or(|before| number >= before),
        "{}: its number {number} is lower than {}, that of the running release; sign it anew, or use \
         `resight deploy --older`",
        release.display(),
        before.unwrap_or_default()
    );
    Ok(Some(number))
}

/// The number of a release; `None` if it has none.
fn number_of(release: &Path) -> Result<Option<u64>> {
    let path = release.join(NUMBER);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
        Ok(_) => {}
    }
    let text = small(&path)?;
    let number = text.trim_end().parse().ok();
    Ok(Some(number.with_context(|| format!("{}: no number", path.display()))?))
}

/// The text of a small regular file.
fn small(path: &Path) -> Result<String> {
    let name = || path.display().to_string();
    let metadata = fs::symlink_metadata(path).with_context(name)?;
    ensure!(
        metadata.is_file() && metadata.len() <= MAX_TEXT,
        "{}: not a regular file of up to 64 KiB",
        path.display()
    );
    let mut text = String::new();
    fs::File::open(path).with_context(name)?.take(MAX_TEXT).read_to_string(&mut text).with_context(name)?;
    Ok(text)
}

/// Whether a program is one that runs here already.
fn is_trusted(program: &Path) -> Result<bool> {
    let sum = sha256_of_file(program)?;
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    // One that is not there is like no other.
    Ok([this.as_path(), Path::new(PACKAGED)]
        .iter()
        .any(|path| sha256_of_file(path).is_ok_and(|other| other == sum)))
}

#[cfg(test)]
mod tests {
    use resight_model_file::PrivateKey;

    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        key: PrivateKey,
    }

    impl Scene {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), key: PrivateKey::from_seed([7; 32]) }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// A release, signed as a whole if it has a number.
        fn release(&self, name: &str, number: Option<u64>) -> PathBuf {
            let folder = self.path(name);
            fs::create_dir(&folder).unwrap();
            let model = Archive::from_bytes("m", resight_fixtures::TINY_MODEL.to_vec()).unwrap();
            self.key.sign_model(&model).write(&folder.join("m.tar")).unwrap();
            fs::write(folder.join("team.pub"), self.key.public().to_text()).unwrap();
            fs::write(folder.join("resightd.service"), "[Service]\n").unwrap();
            fs::write(folder.join(PROGRAM), format!("program {name}")).unwrap();
            let text = "[model]\nfile = \"m.tar\"\npublic_key = \"team.pub\"\n[source]\nkind = \"mjpeg\"\npath = \"a\"\n";
            fs::write(folder.join(CONFIGURATION), text).unwrap();
            match number {
                None => drop(self.key.sign_program(&folder.join(PROGRAM)).unwrap()),
                Some(number) => {
                    fs::write(folder.join(NUMBER), format!("{number}\n")).unwrap();
                    self.sign(&folder);
                }
            }
            folder
        }

        fn sign(&self, folder: &Path) {
            let mut sums = String::new();
            for (name, path) in regular_files(folder).unwrap() {
                if ![SUMS, SUMS_SIGNATURE].contains(&name.as_str()) {
                    sums += &format!("{}  {name}\n", sha256_of_file(&path).unwrap());
                }
            }
            fs::write(folder.join(SUMS), &sums).unwrap();
            fs::write(folder.join(SUMS_SIGNATURE), self.key.sign_release(sums.as_bytes())).unwrap();
        }
    }

    fn judged(running: &Path, release: &Path) -> Result<String> {
        verify(&running.join(CONFIGURATION), release, false)
    }

    #[track_caller]
    fn refused(running: &Path, release: &Path, words: &str) {
        let error = format!("{:#}", judged(running, release).unwrap_err());
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_signed_release_is_taken_and_no_older_or_unsigned_one_after_it() {
        let scene = Scene::new();
        let (plain, other) = (scene.release("plain", None), scene.release("other", None));
        judged(&plain, &other).unwrap();
        let (five, six) = (scene.release("five", Some(5)), scene.release("six", Some(6)));
        assert!(judged(&plain, &five).unwrap().ends_with(", number 5"));
        judged(&five, &six).unwrap();
        judged(&five, &five).unwrap();
        refused(&six, &five, "its number 5 is lower than 6");
        verify(&six.join(CONFIGURATION), &five, true).unwrap();
        refused(&six, &plain, "the list of its files is not signed");
    }

    #[test]
    fn whatever_is_altered_added_or_taken_away_is_noticed() {
        let scene = Scene::new();
        let running = scene.release("running", Some(1));
        for (index, name) in
            [CONFIGURATION, "resightd.service", PROGRAM, "m.tar", NUMBER, SUMS].into_iter().enumerate()
        {
            let release = scene.release(&format!("altered{index}"), Some(2));
            let mut content = fs::read(release.join(name)).unwrap();
            content.extend(b"\n");
            fs::write(release.join(name), content).unwrap();
            judged(&running, &release).unwrap_err();
        }
        let release = scene.release("more", Some(2));
        fs::write(release.join("extra"), "x").unwrap();
        refused(&running, &release, "extra: not in the list that was signed");
        let release = scene.release("less", Some(2));
        fs::remove_file(release.join("resightd.service")).unwrap();
        refused(&running, &release, "resightd.service is missing");
        let release = scene.release("foreign", Some(2));
        let foreign = PrivateKey::from_seed([8; 32]);
        let sums = fs::read(release.join(SUMS)).unwrap();
        fs::write(release.join(SUMS_SIGNATURE), foreign.sign_release(&sums)).unwrap();
        refused(&running, &release, "signed it, not key");
        // The signature of a program is none of a list.
        let release = scene.release("confused", Some(2));
        fs::write(release.join("program"), fs::read(release.join(SUMS)).unwrap()).unwrap();
        let signature = scene.key.sign_program(&release.join("program")).unwrap();
        fs::rename(signature, release.join(SUMS_SIGNATURE)).unwrap();
        fs::remove_file(release.join("program")).unwrap();
        refused(&running, &release, "did not sign this content");
    }

    #[test]
    fn files_elsewhere_links_and_pipes_are_refused_at_once() {
        let scene = Scene::new();
        let running = scene.release("running", Some(1));
        for (index, (key, value)) in
            [("file", "../running/m.tar"), ("file", "/etc/hostname"), ("public_key", "../running/team.pub")]
                .into_iter()
                .enumerate()
        {
            let release = scene.release(&format!("elsewhere{index}"), Some(2));
            let text = fs::read_to_string(release.join(CONFIGURATION)).unwrap();
            let text: String = text
                .lines()
                .map(|line| {
                    if line.starts_with(key) { format!("{key} = \"{value}\"\n") } else { format!("{line}\n") }
                })
                .collect();
            fs::write(release.join(CONFIGURATION), text).unwrap();
            scene.sign(&release);
            refused(&running, &release, "which is no file of the release");
        }
        let release = scene.release("pipe", Some(2));
        fs::remove_file(release.join(PROGRAM)).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, release.join(PROGRAM), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        refused(&running, &release, "resightd: no regular file");
        let release = scene.release("link", Some(2));
        fs::remove_file(release.join("m.tar")).unwrap();
        std::os::unix::fs::symlink(running.join("m.tar"), release.join("m.tar")).unwrap();
        refused(&running, &release, "m.tar: no regular file");
    }
}
