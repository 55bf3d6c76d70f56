use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use resight_base::console::{complain, print, print_line};
use resight_model_file::{PrivateKey, PublicKey, sha256_of_file, signature_path};
use resight_runtime::Model;
use toml::de::DeTable;

use super::megabytes;

const PROBE: &str = include_str!("../../../cross/deploy/probe");
const RELEASE: &str = include_str!("../../../cross/deploy/release");
const SETTLE_UNIT: &str = include_str!("../../../cross/deploy/resight-settle.service");
const UNIT: &str = include_str!("../../../cross/package/systemd/resightd.service");

/// Where releases are on the board; the scripts have the same default.
const BASE: &str = "/opt/resight";

const BINARY: &str = "resightd";
const CONFIGURATION: &str = "resightd.toml";
const SUMS: &str = "SHA256SUMS";
const SIGNATURE: &str = "resightd.sig";
const SUMS_SIGNATURE: &str = "SHA256SUMS.sig";
/// Grows from release to release: an older one is not taken again.
const NUMBER: &str = "release.number";

/// For ssh and scp: a board that has gone is noticed within a minute.
const OPTIONS: [&str; 6] =
    ["-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"];

/// Names in a release, or on the way to the board beside it, that a model or key cannot have.
const RESERVED: [&str; 9] = [
    BINARY,
    CONFIGURATION,
    SIGNATURE,
    SUMS,
    SUMS_SIGNATURE,
    NUMBER,
    "resightd.service",
    "release",
    "resight-settle.service",
];

/// Longest answer of a board, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Arguments of `resight deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cross/build/resightd
  resight deploy pi@camera.local --model resnet50.resight.tar --config resightd.toml \\
    --resightd target/aarch64-unknown-linux-gnu/firmware/resightd

It needs ssh and scp here, and there systemd and root or sudo without a password. What the board
has already is not copied again. The new release lies beside the old one; when it fails its
self-test, does not become ready or is too slow, the old one runs on.

If the configuration names a public key, it must have signed the model and the resightd, or all of
the release (--key).")]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
pub(crate) struct Arguments {
    /// The board, as ssh knows it: USER@HOST or a name of ~/.ssh/config.
    board: String,
    /// The model file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The configuration; the board's present one by default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The static resightd for the board; the board's present one by default.
    #[arg(long, value_name = "FILE")]
    resightd: Option<PathBuf>,
    /// Fewer frames per second than this take the release back.
    #[arg(long, default_value_t = 0.0, value_name = "RATE")]
    at_least: f64,
    /// How long to measure that.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    measure: u64,
    /// How long the first classified frame may take after the start.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    ready_within: u64,
    /// Take a release that the key of the running one did not sign: another key, or none.
    #[arg(long)]
    replace_key: bool,
    /// Sign the release as a whole with this private key: its configuration and unit too, and a
    /// number that grows, so that the board takes no older one after it. The board's key must be its
    /// other half; from then on the board takes only releases that are signed so.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The number of the release that `--key` signs [default: the seconds since 1970, or one more
    /// than the board's].
    #[arg(long, value_name = "N", requires = "key")]
    number: Option<u64>,
    /// Take a release whose number is lower than the running one's.
    #[arg(long)]
    older: bool,
    /// Deploy to a board that forgets what is written at its next start (an overlay over a read-only
    /// disk).
    #[arg(long)]
    overlay: bool,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(self.at_least.is_finite() && self.at_least >= 0.0, "--at-least must be 0 or more");
        let mut board = Board::new(&self.board)?;
        let facts = Facts::parse(&board.script("probe", PROBE)?)
            .with_context(|| format!("{}: an unexpected answer", self.board))?;
        facts.check(&self.board, self.overlay)?;
        board.sudo = facts.sudo;

        let stage = tempfile::tempdir().context("cannot make a temporary folder")?;
        let release = Release::assemble(&self, &board, &facts, stage.path())?;
        let id = release.id.clone();
        if facts.release.as_deref() == Some(&id) {
            progress(format_args!("{}: release {id} is there already and good", self.board));
            return Ok(());
        }
        let missing: Vec<&str> = release.missing(&facts);
        let bytes: u64 = missing.iter().map(|name| release.size(name)).sum();
        progress(format_args!(
            "{}: release {id}, now {}",
            self.board,
            facts.release.as_deref().unwrap_or("none")
        ));
        for (name, sum) in &release.sums {
            let how = if missing.contains(&name.as_str()) { "copy" } else { "there" };
            progress(format_args!("  {how:5}  {}  {name}", &sum[..16]));
        }
        // The new release, the copy on its way, and room to breathe.
        let needed = (release.total() + bytes) / 1024 + 4096;
        ensure!(
            facts.free_kib >= needed,
            "{}: {} MiB are free, {} are needed; remove something from the board",
            self.board,
            facts.free_kib >> 10,
            (needed >> 10) + 1
        );
        if self.dry_run {
            progress(format_args!(
                "would copy {}, test, switch and measure; nothing was changed",
                megabytes(bytes)
            ));
            return Ok(());
        }

        let there = board.run("mktemp", &["mktemp", "-d"], false)?.trim().to_owned();
        ensure!(there.starts_with('/') && !there.contains(char::is_whitespace), "mktemp gave {there:?}");
        let result = self.deliver(&board, &release, &missing, stage.path(), &there, &id);
        // What went wrong before matters more.
        let cleared = board.run("rm", &["rm", "-rf", &there], false);
        result?;
        cleared.map(|_| ())
    }

    /// The number of a release with these files: the board's own if it has just these, so that it
    /// is known as the same.
    fn number_for(&self, board: &Board, facts: &Facts, sums: &BTreeMap<String, String>) -> Result<u64> {
        if let Some(number) = self.number {
            return Ok(number);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if facts.sum(NUMBER).is_none() {
            return Ok(now);
        }
        let there = format!("{BASE}/current/{NUMBER}");
        let text = board.run("cat", &["cat", &there], true)?;
        let before: u64 = text.trim().parse().with_context(|| format!("{}: {there}", self.board))?;
        let same = sums.iter().all(|(name, sum)| facts.sum(name) == Some(sum.as_str()));
        Ok(if same { before } else { now.max(before.saturating_add(1)) })
    }

    fn deliver(
        &self,
        board: &Board,
        release: &Release,
        missing: &[&str],
        stage: &Path,
        there: &str,
        id: &str,
    ) -> Result<()> {
        for (name, text) in [("release", RELEASE), ("resight-settle.service", SETTLE_UNIT)] {
            write(&stage.join(name), text.as_bytes())?;
        }
        // scp follows links and keeps their names.
        let outbox = stage.join("outbox");
        fs::create_dir(&outbox).with_context(|| format!("{}: cannot make the folder", outbox.display()))?;
        let signature = self.key.as_ref().map(|_| SUMS_SIGNATURE);
        let always = [SUMS, "release", "resight-settle.service"].into_iter().chain(signature);
        let always = always.map(|name| (name, stage.join(name)));
        let files = missing.iter().map(|name| (*name, release.here[*name].clone())).chain(always);
        let mut links = vec![];
        for (name, path) in files {
            let link = outbox.join(name);
            fs::canonicalize(&path)
                .and_then(|path| symlink(path, &link))
                .with_context(|| format!("{}: cannot be read", path.display()))?;
            links.push(link);
        }
        board.copy(&links, there)?;
        let mut install = vec!["install", there, id];
        if self.replace_key {
            install.push("replace-key");
        } else if self.older {
            install.push("older");
        }
        board.root_script("install", RELEASE, &install)?;

        let folder = format!("{BASE}/releases/{id}");
        let at = |name: &str| format!("{folder}/{name}");
        let (binary, configuration, model) = (at(BINARY), at(CONFIGURATION), at(&release.model));
        let trial = || -> Result<()> {
            let version = board.run("version", &[&binary, "--version"], true);
            show(format_args!("{}", version.context("this resightd does not run on the board")?));
            // A camera that is not plugged in is no reason to keep an old release.
            match board.run("doctor", &[&binary, "doctor"], true) {
                Ok(text) => show(format_args!("{text}")),
                Err(error) => complain(format_args!("{error:#}")),
            }
            board.run("check", &[&binary, "check", &configuration], true)?;
            show(format_args!(
                "{}",
                board.run("self-test", &[&binary, "self-test", "--model", &model], true)?
            ));
            show(format_args!("{}", board.run("bench", &[&binary, "bench", "--model", &model], true)?));
            Ok(())
        };
        if let Err(error) = trial() {
            board.root_script("remove", RELEASE, &["remove", id])?;
            return Err(error.context("nothing was switched"));
        }
        let (measure, rate) = (self.measure.to_string(), self.at_least.to_string());
        let ready = self.ready_within.to_string();
        let script = format!("{BASE}/release");
        board
            .follow(&[&script, "activate", id, &measure, &rate, &ready])
            .context("the new release did not work")
    }
}

/// Says how far it is. An update does not stop halfway because nobody listens any more.
fn progress(text: fmt::Arguments<'_>) {
    let _ = print_line(text);
}

/// The same with text that has line breaks of its own.
fn show(text: fmt::Arguments<'_>) {
    let _ = print(text);
}

/// What the probe found.
struct Facts {
    sudo: bool,
    free_kib: u64,
    /// The last good release.
    release: Option<String>,
    /// sha256 and name of files of the current release and of the package.
    files: Vec<(String, String)>,
    words: BTreeMap<String, String>,
}

impl Facts {
    fn parse(text: &str) -> Result<Self> {
        let (mut words, mut files) = (BTreeMap::new(), vec![]);
        for line in text.lines() {
            let (key, value) = line.split_once(' ').with_context(|| format!("{line:?}"))?;
            match key {
                "file" => {
                    let (sum, name) = value.split_once(' ').with_context(|| format!("{line:?}"))?;
                    files.push((sum.to_owned(), name.to_owned()));
                }
                key => drop(words.insert(key.to_owned(), value.to_owned())),
            }
        }
        let word = |key: &str| words.get(key).map(String::as_str).with_context(|| format!("no `{key}`"));
        Ok(Self {
            sudo: word("root")? == "sudo",
            free_kib: word("free")?.parse()?,
            release: words.get("release").filter(|id| !id.is_empty()).cloned(),
            files,
            words,
        })
    }

    fn check(&self, board: &str, overlay: bool) -> Result<()> {
        let is = |key: &str, value: &str| self.words.get(key).is_some_and(|word| word == value);
        ensure!(
            is("machine", "aarch64"),
            "{board} is {}, not aarch64; a 64-bit system is needed",
            self.words.get("machine").map_or("unknown", String::as_str)
        );
        ensure!(is("systemd", "yes"), "{board} has no systemd, which runs the service");
        ensure!(
            !is("root", "no"),
            "{board}: neither root nor sudo without a password; add a rule with `sudo visudo`, or use root"
        );
        if let Some(place) = self.words.get("forgets").filter(|_| !overlay) {
            bail!(
                "{board}: {place} is on a file system in memory (an overlay over a read-only disk), so the release would \
                 be gone at the next start; switch that off first (`sudo raspi-config nonint disable_overlayfs`, then \
                 reboot), or say --overlay if that is meant"
            );
        }
        Ok(())
    }

    /// The checksum of the current release's file of that name, or else the package's.
    fn sum(&self, name: &str) -> Option<&str> {
        let found = self.files.iter().find(|(_, other)| other == name);
        found.map(|(sum, _)| sum.as_str())
    }

    fn has(&self, name: &str, sum: &str) -> bool {
        self.files.iter().any(|(other, found)| other == sum && found == name)
    }
}

/// The files of one release.
struct Release {
    /// The same files give the same name.
    id: String,
    /// sha256 by name, as `sha256sum -c` reads it.
    sums: BTreeMap<String, String>,
    /// Where the files are here; those that only the board has are not in it.
    here: BTreeMap<String, PathBuf>,
    /// The model's name.
    model: String,
}

impl Release {
    /// Gathers the files and writes their checksums into `stage`.
    fn assemble(arguments: &Arguments, board: &Board, facts: &Facts, stage: &Path) -> Result<Self> {
        let configuration = if let Some(path) = &arguments.config {
            path.clone()
        } else {
            let there = format!("{BASE}/current/{CONFIGURATION}");
            let text = board.run("cat", &["cat", &there], true).with_context(|| {
                format!("{}: no configuration there yet; give one with --config", arguments.board)
            })?;
            let path = stage.join(CONFIGURATION);
            write(&path, text.as_bytes())?;
            path
        };
        let named = Named::read(&configuration)?;
        let mut here = BTreeMap::from([
            (named.model.clone(), arguments.model.clone()),
            (CONFIGURATION.to_owned(), configuration.clone()),
        ]);
        let mut key = None;
        if let Some(name) = &named.public_key {
            let folder = arguments.config.as_deref().and_then(Path::parent);
            let Some(folder) = folder else {
                bail!("the board's configuration names a key; give configuration and key with --config")
            };
            let path = folder.join(name);
            key = Some(PublicKey::read(&path)?);
            here.insert(name.clone(), path);
        }
        // The board would refuse the same, later.
        Model::load_signed(&arguments.model, key.as_ref())?;
        let signer = arguments.key.as_deref().map(PrivateKey::read).transpose()?;
        if let Some(signer) = &signer {
            ensure!(
                key == Some(signer.public()),
                "{}: model.public_key must be the other half of --key, key {}",
                configuration.display(),
                signer.public().fingerprint()
            );
        }
        // The list vouches for the program too.
        if let (Some(key), Some(program), None) = (&key, &arguments.resightd, &signer) {
            key.check_program(program)?;
            here.insert(SIGNATURE.to_owned(), signature_path(program));
        }
        let unit = stage.join("resightd.service");
        let current = format!("{BASE}/current/");
        let text = UNIT.replace("/usr/bin/", &current).replace("/etc/resight/", &current);
        write(&unit, text.as_bytes())?;
        here.insert("resightd.service".to_owned(), unit);
        if let Some(path) = &arguments.resightd {
            here.insert(BINARY.to_owned(), path.clone());
        }
        let mut sums = BTreeMap::new();
        for (name, path) in &here {
            sums.insert(name.clone(), sha256_of_file(path)?);
        }
        if arguments.resightd.is_none() {
            let sum = facts.sum(BINARY).with_context(|| {
                format!(
                    "{}: no resightd there yet; make one with cross/build/resightd, then --resightd",
                    arguments.board
                )
            })?;
            sums.insert(BINARY.to_owned(), sum.to_owned());
            if let Some(sum) = facts.sum(SIGNATURE).filter(|_| signer.is_none()) {
                sums.insert(SIGNATURE.to_owned(), sum.to_owned());
            }
        }
        if signer.is_some() {
            let number = arguments.number_for(board, facts, &sums)?;
            let path = stage.join(NUMBER);
            write(&path, format!("{number}\n").as_bytes())?;
            sums.insert(NUMBER.to_owned(), sha256_of_file(&path)?);
            here.insert(NUMBER.to_owned(), path);
        }
        let lines: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
        write(&stage.join(SUMS), lines.as_bytes())?;
        if let Some(signer) = &signer {
            write(&stage.join(SUMS_SIGNATURE), &signer.sign_release(lines.as_bytes()))?;
        }
        let id = sha256_of_file(&stage.join(SUMS))?[..16].to_owned();
        Ok(Self { id, sums, here, model: named.model })
    }

    fn missing(&self, facts: &Facts) -> Vec<&str> {
        let missing = self.sums.iter().filter(|(name, sum)| !facts.has(name, sum));
        missing.map(|(name, _)| name.as_str()).filter(|name| self.here.contains_key(*name)).collect()
    }

    fn size(&self, name: &str) -> u64 {
        self.here.get(name).and_then(|path| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len())
    }

    fn total(&self) -> u64 {
        self.sums.keys().map(|name| self.size(name)).sum()
    }
}

/// What a configuration says about the files of a release.
struct Named {
    model: String,
    public_key: Option<String>,
}

impl Named {
    fn read(path: &Path) -> Result<Self> {
        let file = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("{file}: cannot read"))?;
        let table = DeTable::parse(&text).map_err(|error| anyhow::anyhow!("{file}: {}", error.message()))?;
        let value = |section: &str, key: &str| {
            let section = table.get_ref().get(section)?.get_ref().as_table()?;
            Some(section.get(key)?.get_ref().as_str()?.to_owned())
        };
        // Everything of a release lies in its folder, so that going back takes it all along.
        let plain = |key: &str| -> Result<Option<String>> {
            let Some(name) = value("model", key) else { return Ok(None) };
            let harmless = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            ensure!(
                name.chars().all(harmless)
                    && !name.is_empty()
                    && !name.starts_with(['.', '-'])
                    && !RESERVED.contains(&name.as_str()),
                "{file}: model.{key} is `{name}`; to be deployed it must be a plain file name, which the \
                 file has beside the configuration on the board"
            );
            Ok(Some(name))
        };
        let model = plain("file")?.with_context(|| format!("{file}: no `file` in [model]"))?;
        let public_key = plain("public_key")?;
        ensure!(
            public_key.as_ref() != Some(&model),
            "{file}: model.file and model.public_key are both `{model}`; name the key's file"
        );
        Ok(Self { model, public_key })
    }
}

/// The board at the other end of ssh.
struct Board {
    name: String,
    sudo: bool,
}

impl Board {
    fn new(name: &str) -> Result<Self> {
        ensure!(!name.starts_with('-') && !name.is_empty(), "{name:?} is no board; give USER@HOST");
        Ok(Self { name: name.to_owned(), sudo: false })
    }

    /// Runs `words` there, as root if wanted; gives standard output.
    fn run(&self, what: &str, words: &[&str], root: bool) -> Result<String> {
        let mut command = self.ssh(words, root);
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.finish(what, piped.spawn().and_then(answer))
    }

    /// Runs a shell script there that comes through standard input.
    fn script(&self, what: &str, script: &str) -> Result<String> {
        self.feed(what, script, self.ssh(&["sh", "-s"], false))
    }

    fn root_script(&self, what: &str, script: &str, arguments: &[&str]) -> Result<String> {
        let words: Vec<&str> = ["sh", "-s", "--"].iter().chain(arguments).copied().collect();
        self.feed(what, script, self.ssh(&words, true))
    }

    fn feed(&self, what: &str, script: &str, mut command: Command) -> Result<String> {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().context("cannot run ssh; is it installed?")?;
        if let Some(mut input) = child.stdin.take() {
            // A script that ends early does not read it all; its exit code says more.
            let _ = input.write_all(script.as_bytes());
        }
        self.finish(what, answer(child))
    }

    /// Runs `words` as root; what they print appears here.
    fn follow(&self, words: &[&str]) -> Result<()> {
        let status = self.ssh(words, true).stdin(Stdio::null()).status().context("cannot run ssh")?;
        ensure!(status.success(), "{}: {} failed; see above", self.name, words[..2].join(" "));
        Ok(())
    }

    fn copy(&self, files: &[PathBuf], folder: &str) -> Result<()> {
        let mut command = Command::new("scp");
        command.arg("-q").args(OPTIONS).arg("--").args(files).arg(format!("{}:{folder}/", self.name));
        let output = command.stdin(Stdio::null()).output();
        if output.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            bail!("cannot run scp; is it installed?");
        }
        self.finish("scp", output).map(drop)
    }

    fn ssh(&self, words: &[&str], root: bool) -> Command {
        let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
        let prefix = if root && self.sudo { "sudo -n " } else { "" };
        let mut command = Command::new("ssh");
        command.args(OPTIONS).arg("--").arg(&self.name).arg(format!("{prefix}{}", quoted.join(" ")));
        command
    }

    fn finish(&self, what: &str, output: std::io::Result<Output>) -> Result<String> {
        let output = output.map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!("cannot run ssh; is it installed?"),
            _ => anyhow!("{}: {what}: {error}", self.name),
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = [text.trim(), error.trim()].join("\n");
        bail!("{}: {what}: {}", self.name, words.trim().replace('\n', "; "))
    }
}

/// What a process says until it ends.
///
/// # Errors
/// One that says more than [`MAX_ANSWER`]; it is ended.
fn answer(mut child: Child) -> io::Result<Output> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = thread::scope(|scope| {
        let errors = scope.spawn(|| limited(stderr));
        let output = limited(stdout);
        (output, errors.join().unwrap_or_else(|_| Err(io::Error::other("its errors cannot be read"))))
    });
    match (stdout, stderr) {
        (Ok(stdout), Ok(stderr)) => Ok(Output { status: child.wait()?, stdout, stderr }),
        (Err(error), _) | (_, Err(error)) => {
            // It may have ended already.
            let _ = child.kill();
            child.wait()?;
            Err(error)
        }
    }
}

/// All that comes; the pipe is closed after [`MAX_ANSWER`], so that nobody waits to write into it.
fn limited(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    let Some(pipe) = pipe else { return Ok(bytes) };
    pipe.take(MAX_ANSWER + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ANSWER {
        return Err(io::Error::other("it answers with more than 1 MiB; what does its shell print at login?"));
    }
    Ok(bytes)
}

/// `word` as one word of a shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("{}: cannot write", path.display()))
}
