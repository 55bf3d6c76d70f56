//! Pictures of what made rules active, in a folder with a size cap.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use super::output::{Output, OutputList, find};
use super::settings::{OutputConfig, SnapshotConfig};
use super::worker::Worker;
use crate::picture::{Pictures, Snapshot, SnapshotTap};
use crate::queue::Queue;
use crate::reach::Reach;
use crate::telemetry::Telemetry;

/// What all names begin with. Other files in the folder are left alone.
const PREFIX: &str = "resight-";

/// Name of the file being written, not yet a snapshot.
const TEMPORARY: &str = ".resight-snapshot.tmp";

/// Snapshots that may wait for a slow disk.
const WAITING: usize = 1;

/// Writes snapshots on a thread of its own.
pub(super) struct Snapshots {
    config: SnapshotConfig,
    worker: Worker<Snapshot, WAITING>,
    telemetry: Arc<Telemetry>,
    tap: Arc<SnapshotTap>,
}

pub(super) fn open(
    config: &OutputConfig,
    old: &OutputList,
    reach: &Reach,
) -> Result<Option<Arc<dyn Output>>> {
    let Some(config) = &config.snapshots else { return Ok(None) };
    if let Some(same) = find::<Snapshots>(old).filter(|old| old.config == *config) {
        return Ok(Some(same));
    }
    Ok(Some(Arc::new(Snapshots::open(config, reach.telemetry.clone(), reach.snapshots.clone())?)))
}

impl Snapshots {
    /// Starts the thread. A folder that cannot be used is its matter: it may be there later.
    ///
    /// # Errors
    /// A system without room for a thread.
    fn open(config: &SnapshotConfig, telemetry: Arc<Telemetry>, tap: Arc<SnapshotTap>) -> Result<Self> {
        let worker = Worker::spawn("snapshots", {
            let (config, telemetry) = (config.clone(), telemetry.clone());
            move |snapshots| write_all(&Folder::new(config), snapshots, &telemetry)
        })?;
        Ok(Self { config: config.clone(), worker, telemetry, tap })
    }
}

impl Pictures for Snapshots {
    fn wants(&self, rule: &str) -> bool {
        self.config.rules.as_ref().is_none_or(|rules| rules.iter().any(|wanted| wanted == rule))
    }

    fn take(&self, snapshot: Snapshot) {
        // One that waits already is of about the same moment.
        if !self.worker.send(snapshot) {
            self.telemetry.snapshots_dropped.one_more();
        }
    }
}

impl Output for Snapshots {
    fn begin(self: Arc<Self>) {
        let tap = self.tap.clone();
        let pictures: Arc<dyn Pictures> = self;
        tap.give_to(Arc::downgrade(&pictures));
    }

    fn event(&self, _line: &Arc<str>) {}

    fn close(&self, deadline: Instant) {
        self.worker.close(deadline);
    }
}

fn write_all(folder: &Folder, snapshots: &Queue<Snapshot, WAITING>, telemetry: &Telemetry) {
    // What is there is listed once, and again after every failure.
    let mut listed = folder.list().map_err(|error| report(telemetry, &error)).ok();
    while let Some(snapshot) = snapshots.wait() {
        let result = match &mut listed {
            Some(files) => folder.write(files, &snapshot),
            None => folder.list().and_then(|files| folder.write(listed.insert(files), &snapshot)),
        };
        match result {
            Ok(()) => {
                telemetry.snapshots_written.one_more();
            }
            Err(error) => {
                listed = None;
                report(telemetry, &error);
            }
        }
    }
}

fn report(telemetry: &Telemetry, error: &anyhow::Error) {
    telemetry.snapshot_errors.one_more();
    log::error!("snapshots: {error:#}");
}

/// A snapshot that was written.
struct Written {
    sequence: u64,
    name: String,
    bytes: u64,
}

struct Folder {
    config: SnapshotConfig,
}

impl Folder {
    fn new(config: SnapshotConfig) -> Self {
        Self { config }
    }

    fn path(&self) -> &Path {
        &self.config.folder
    }

    /// The snapshots that there are, oldest first. What an earlier run left unfinished is deleted.
    fn list(&self) -> Result<VecDeque<Written>> {
        let context = || {
            format!("{}: `output.snapshots` needs a folder that this user may write", self.path().display())
        };
        fs::create_dir_all(self.path()).with_context(context)?;
        let mut files = vec![];
        for entry in fs::read_dir(self.path()).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == TEMPORARY {
                remove(&entry.path())?;
            } else if let Some(sequence) = sequence(&name)
                && let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                files.push(Written { sequence, name, bytes: metadata.len() });
            }
        }
        files.sort_by_key(|file| file.sequence);
        Ok(files.into())
    }

    /// Writes a snapshot after making room for it.
    fn write(&self, files: &mut VecDeque<Written>, snapshot: &Snapshot) -> Result<()> {
        let jpeg = snapshot.picture.jpeg_of(snapshot.place, self.config.shows)?;
        let bytes = jpeg.len() as u64;
        if bytes > self.config.max_bytes {
            bail!("a picture of {bytes} bytes is larger than `output.snapshots.max_mb` allows");
        }
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        while total + bytes > self.config.max_bytes {
            let Some(oldest) = files.pop_front() else { break };
            remove(&self.path().join(&oldest.name))?;
            total -= oldest.bytes;
        }
        let sequence = files.back().map_or(1, |newest| newest.sequence.saturating_add(1));
        let name = name(sequence, snapshot);
        let temporary = self.path().join(TEMPORARY);
        let target = self.path().join(&name);
        let result = write_new(&temporary, &jpeg).and_then(|()| fs::rename(&temporary, &target));
        if let Err(error) = result {
            // It takes room on a disk that has none. What somebody else has put there is not followed.
            let _ = fs::remove_file(&temporary);
            return Err(error).with_context(|| target.display().to_string());
        }
        files.push_back(Written { sequence, name, bytes });
        Ok(())
    }
}

/// Writes a file that was not there. A symbolic link of that name is no way to another file.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(content)
}

/// Deletes a file; one that is gone already is no failure.
fn remove(path: &PathBuf) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be deleted to make room", path.display()))
        }
        _ => Ok(()),
    }
}

/// The number in the name of a snapshot. It and not the time tells the age, because clocks jump.
fn sequence(name: &str) -> Option<u64> {
    let rest = name.strip_prefix(PREFIX)?.strip_suffix(".jpg")?;
    let digits = rest.split('-').next()?;
    if digits.len() < 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// `resight-00000042-20261124T013000.250Z-rule-class-0.93-f1234.jpg`.
fn name(sequence: u64, snapshot: &Snapshot) -> String {
    format!(
        "{PREFIX}{sequence:08}-{}-{}-{}-{:.2}-f{}.jpg",
        utc(snapshot.wall),
        plain(&snapshot.rule),
        plain(&snapshot.class),
        snapshot.score,
        snapshot.picture.number()
    )
}

/// Up to 40 characters that every file system can hold.
fn plain(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    text.chars().take(40).map(keep).collect()
}

/// A time in UTC, `20261124T013000.250Z`. Times before 1970 count as 1970.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (day, hour, minute) = (days + 1, seconds / 3600, seconds / 60 % 60);
    let (second, milliseconds) = (seconds % 60, since.subsec_millis());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::frame::Frame;
    use crate::picture::{Picture, Shows};

    fn snapshot(class: &str) -> Snapshot {
        let frame = Frame {
            bytes: vec![90; 64 * 64 * 3],
            width: 64,
            height: 64,
            stride: 192,
            number: 7,
            ..Frame::new()
        };
        Snapshot {
            picture: Arc::new(Picture::of(&frame)),
            place: None,
            rule: "cat".into(),
            class: class.into(),
            score: 0.934,
            wall: UNIX_EPOCH + Duration::from_millis(1_795_484_285_250),
        }
    }

    fn folder(path: &Path, max_bytes: u64) -> Folder {
        Folder::new(SnapshotConfig { folder: path.to_owned(), max_bytes, rules: None, shows: Shows::Frame })
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000.000Z");
        assert_eq!(at(951_782_399), "20000228T235959.000Z");
        assert_eq!(at(951_782_400), "20000229T000000.000Z");
        assert_eq!(at(1_709_251_200), "20240301T000000.000Z");
        assert_eq!(at(1_735_689_599), "20241231T235959.000Z");
        assert_eq!(at(4_107_542_400), "21000301T000000.000Z");
        assert_eq!(utc(UNIX_EPOCH - Duration::from_secs(5)), at(0));
    }

    #[test]
    fn names_tell_why_and_hold_no_path() {
        let name = name(42, &snapshot("../tabby, cat/é"));
        assert_eq!(name, "resight-00000042-20261124T013805.250Z-cat-___tabby__cat__-0.93-f7.jpg");
        assert_eq!(sequence(&name), Some(42));
        for foreign in ["resight-1-x.jpg", "resight-00000042-x.png", "holiday.jpg", "resight-0000004x-.jpg"] {
            assert_eq!(sequence(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_oldest_go_first_and_foreign_files_stay() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("new/folder");
        let bytes = snapshot("a").picture.jpeg().unwrap().len() as u64;
        let folder = folder(&path, 3 * bytes + bytes / 2);
        let mut files = folder.list().unwrap();
        fs::write(path.join("holiday.jpg"), vec![0; 10_000]).unwrap();
        for _ in 0..5 {
            folder.write(&mut files, &snapshot("a")).unwrap();
        }
        let sequences =
            |files: &VecDeque<Written>| files.iter().map(|file| file.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(&files), [3, 4, 5]);
        // A restart goes on counting, though the clock fell back; what was unfinished is gone.
        fs::write(path.join(TEMPORARY), "half").unwrap();
        let mut files = folder.list().unwrap();
        assert_eq!(sequences(&files), [3, 4, 5]);
        // Somebody else deleted the oldest.
        fs::remove_file(path.join(&files[0].name)).unwrap();
        folder.write(&mut files, &Snapshot { wall: UNIX_EPOCH, ..snapshot("a") }).unwrap();
        assert_eq!(sequences(&files), [4, 5, 6]);
        let names = names(&path);
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(
            names.contains(&"holiday.jpg".to_owned()) && names[3].contains("00000006-19700101T"),
            "{names:?}"
        );
    }

    #[test]
    fn a_snapshot_shows_the_thing_where_that_is_wanted() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, max_bytes) = (temporary.path().to_owned(), 1 << 20);
        let folder =
            Folder::new(SnapshotConfig { folder: path, max_bytes, rules: None, shows: Shows::Thing });
        let mut files = folder.list().unwrap();
        let size = |files: &VecDeque<Written>| {
            let newest = temporary.path().join(&files.back().unwrap().name);
            image::open(newest).unwrap().into_rgb8().dimensions()
        };
        folder.write(&mut files, &Snapshot { place: Some([0.5, 0.5, 0.75, 1.0]), ..snapshot("a") }).unwrap();
        // 16 x 32 pixels of 64 x 64, and a tenth of 32 where there is as much.
        assert_eq!(size(&files), (22, 35));
        folder.write(&mut files, &snapshot("a")).unwrap();
        assert_eq!(size(&files), (64, 64));
    }

    #[test]
    fn nothing_is_written_through_a_symbolic_link() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, precious) = (temporary.path().join("folder"), temporary.path().join("precious"));
        fs::write(&precious, "precious").unwrap();
        let folder = folder(&path, 1 << 20);
        let mut files = folder.list().unwrap();
        // Somebody who may write into the folder, after it was listed.
        std::os::unix::fs::symlink(&precious, path.join(TEMPORARY)).unwrap();
        let error = folder.write(&mut files, &snapshot("a")).unwrap_err();
        assert!(format!("{error:#}").contains("File exists"), "{error:#}");
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        // The link is gone; the next one is written.
        folder.write(&mut folder.list().unwrap(), &snapshot("a")).unwrap();
        std::os::unix::fs::symlink(&precious, path.join(TEMPORARY)).unwrap();
        folder.list().unwrap();
        assert_eq!((names(&path).len(), fs::read(&precious).unwrap()), (1, b"precious".to_vec()));
    }

    #[test]
    fn a_picture_above_the_cap_is_refused_and_deletes_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let generous = folder(temporary.path(), 1 << 20);
        generous.write(&mut generous.list().unwrap(), &snapshot("a")).unwrap();
        let tight = folder(temporary.path(), 10);
        let error = tight.write(&mut tight.list().unwrap(), &snapshot("a")).unwrap_err().to_string();
        assert!(error.contains("larger than `output.snapshots.max_mb` allows"), "{error}");
        assert_eq!(names(temporary.path()).len(), 1);
    }

    #[test]
    fn one_waits_and_the_rest_is_counted() {
        let temporary = tempfile::tempdir().unwrap();
        let telemetry = Arc::new(Telemetry::default());
        let config = SnapshotConfig {
            folder: temporary.path().to_owned(),
            max_bytes: 1 << 20,
            rules: Some(vec!["cat".into()]),
            shows: Shows::Frame,
        };
        let snapshots = Snapshots::open(&config, telemetry.clone(), Arc::default()).unwrap();
        assert!(snapshots.wants("cat") && !snapshots.wants("dog"));
        for _ in 0..50 {
            snapshots.take(snapshot("a"));
        }
        snapshots.close(Instant::now() + Duration::from_secs(30));
        let written = telemetry.snapshots_written.count();
        let dropped = telemetry.snapshots_dropped.count();
        assert_eq!((written + dropped, names(temporary.path()).len() as u64), (50, written));
        assert!(written >= 1);
    }
}
