//! A folder that gets new pictures: from a camera that sends them by FTP, or from another program.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Most folders in the folder; cameras make one a day or an hour.
const MOST_FOLDERS: usize = 4096;

/// Most pictures that wait. More are counted as dropped.
const MOST_WAITING: usize = 4096;

/// Bytes of events that are read at once.
const EVENTS: usize = 16 << 10;

/// Pictures that were written to the end, or renamed to their names, since this was made: in a folder
/// and in the folders in it.
#[derive(Debug)]
pub(super) struct Watched {
    queue: OwnedFd,
    folders: HashMap<i32, PathBuf>,
    waiting: VecDeque<PathBuf>,
    dropped: u64,
}

impl Watched {
    /// Begins to watch `folder`.
    ///
    /// # Errors
    /// A folder that is missing or may not be read, or more folders than the kernel watches.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watched = Self { queue, folders: HashMap::new(), waiting: VecDeque::new(), dropped: 0 };
        watched.add(folder, false)?;
        Ok(watched)
    }

    /// Watches a folder and the folders in it. Pictures that lie there already are taken if they
    /// `count`, because the folder appeared together with them.
    fn add(&mut self, folder: &Path, count: bool) -> io::Result<()> {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            if self.folders.len() >= MOST_FOLDERS {
                return Err(io::Error::other(format!("more than {MOST_FOLDERS} folders")));
            }
            let what = WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVED_TO
                | WatchFlags::CREATE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            let number = inotify::add_watch(&self.queue, &folder, what)?;
            self.folders.insert(number, folder.clone());
            let mut files = vec![];
            // After the watch was set: nothing that comes now is missed.
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if count {
                    files.push(entry.path());
                }
            }
            files.sort();
            for file in files {
                self.push(file);
            }
        }
        Ok(())
    }

    fn push(&mut self, file: PathBuf) {
        if !resight_imaging::is_image_name(&file) || self.waiting.contains(&file) {
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            self.dropped += 1;
            return;
        }
        self.waiting.push_back(file);
    }

    /// The next picture; `None` if none came within `wait`.
    ///
    /// # Errors
    /// A folder that was removed or moved away, or cannot be watched.
    pub(super) fn next(&mut self, wait: Duration) -> io::Result<Option<PathBuf>> {
        if self.waiting.is_empty() {
            let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.queue, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
                Ok(_) => self.read()?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// Pictures that were missed since the last call.
    pub(super) fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut events = vec![];
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    events.push((event.wd(), event.events(), name));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        for (number, what, name) in events {
            self.handle(number, what, name)?;
        }
        Ok(())
    }

    fn handle(&mut self, number: i32, what: ReadFlags, name: Option<String>) -> io::Result<()> {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.dropped += 1;
            return Ok(());
        }
        if what.contains(ReadFlags::IGNORED) {
            self.folders.remove(&number);
            let gone = || io::Error::new(io::ErrorKind::NotFound, "the folder is gone");
            return if self.folders.is_empty() { Err(gone()) } else { Ok(()) };
        }
        let Some((folder, name)) = self.folders.get(&number).zip(name) else { return Ok(()) };
        let path = folder.join(name);
        if what.contains(ReadFlags::ISDIR) {
            return match self.add(&path, true) {
                // It went again, or was renamed, before it could be watched.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            };
        }
        if what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
            self.push(path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn pictures_come_when_they_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("old.jpg"), b"1").unwrap();
        let mut watched = Watched::open(folder.path()).unwrap();
        assert_eq!(watched.next(Duration::ZERO).unwrap(), None);
        fs::write(path("a.jpg"), b"1").unwrap();
        assert_eq!(watched.next(WAIT).unwrap(), Some(path("a.jpg")));
        // Written under another name, as many servers do it, and renamed.
        fs::write(path("b.jpg.part"), b"1").unwrap();
        assert_eq!(watched.next(Duration::ZERO).unwrap(), None);
        fs::rename(path("b.jpg.part"), path("b.jpg")).unwrap();
        assert_eq!(watched.next(WAIT).unwrap(), Some(path("b.jpg")));
        let open = fs::File::create(path("c.png")).unwrap();
        assert_eq!(watched.next(Duration::from_millis(20)).unwrap(), None);
        drop(open);
        assert_eq!(watched.next(WAIT).unwrap(), Some(path("c.png")));
        fs::write(path("notes.txt"), b"1").unwrap();
        fs::write(path("._d.jpg"), b"1").unwrap();
        assert_eq!(watched.next(Duration::from_millis(20)).unwrap(), None);
    }

    #[test]
    fn folders_that_appear_are_watched_with_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::create_dir_all(other.path().join("2026/11")).unwrap();
        fs::write(other.path().join("2026/11/a.jpg"), b"1").unwrap();
        let mut watched = Watched::open(folder.path()).unwrap();
        fs::rename(other.path().join("2026"), folder.path().join("2026")).unwrap();
        assert_eq!(watched.next(WAIT).unwrap(), Some(folder.path().join("2026/11/a.jpg")));
        fs::write(folder.path().join("2026/11/b.jpg"), b"1").unwrap();
        assert_eq!(watched.next(WAIT).unwrap(), Some(folder.path().join("2026/11/b.jpg")));
    }

    #[test]
    fn a_folder_that_goes_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("in");
        fs::create_dir(&own).unwrap();
        let mut watched = Watched::open(&own).unwrap();
        fs::remove_dir(&own).unwrap();
        let error = loop {
            match watched.next(WAIT) {
                Ok(None) => {}
                Ok(Some(path)) => panic!("{path:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
