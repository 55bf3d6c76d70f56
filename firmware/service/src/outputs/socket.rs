//! Events on a Unix stream socket.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use super::output::{Output, OutputList, find};
use super::settings::OutputConfig;
use crate::reach::Reach;
use crate::sync::lock;
use crate::telemetry::Telemetry;
use crate::wake::Wake;

/// Readers at the same time.
const READERS: usize = 16;

/// Bytes that may wait for a reader, besides those in the kernel's buffer.
const PENDING: usize = 64 << 10;

/// How often it is looked whether the socket is still in the file system.
const CHECK: Duration = Duration::from_secs(5);

/// A reader that takes nothing for so long is disconnected.
const PATIENCE: Duration = Duration::from_secs(10);

struct Reader {
    stream: UnixStream,
    pending: VecDeque<u8>,
    /// When it last took something, or had nothing to take.
    progress: Instant,
}

/// A socket that gives every reader all events from when it connected.
///
/// Nothing here waits: what a reader does not take is kept for a while, then dropped.
pub(super) struct EventSocket {
    path: PathBuf,
    bound: Mutex<Bound>,
    readers: Mutex<Vec<Reader>>,
    telemetry: Arc<Telemetry>,
    wake: Arc<Wake>,
}

pub(super) fn open(
    config: &OutputConfig,
    old: &OutputList,
    reach: &Reach,
) -> Result<Option<Arc<dyn Output>>> {
    let Some(path) = &config.socket else { return Ok(None) };
    if let Some(same) = find::<EventSocket>(old).filter(|old| old.path == *path) {
        return Ok(Some(same));
    }
    Ok(Some(Arc::new(EventSocket::open(path, reach.telemetry.clone(), reach.wake.clone())?)))
}

/// The listener and where it is in the file system.
struct Bound {
    listener: UnixListener,
    inode: u64,
    /// When it was last seen that it is there.
    checked: Instant,
    /// Whether somebody was told that it cannot be brought back.
    told: bool,
}

impl Bound {
    /// Listens at `path`, with access for the owner and the group.
    fn new(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let inode = fs::symlink_metadata(path)?.ino();
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, inode, checked: Instant::now(), told: false })
    }
}

impl EventSocket {
    /// Listens at `path`, with access for the owner and the group. A file that a dead process left is replaced.
    ///
    /// # Errors
    /// A path that another process listens at, that is no socket, or that cannot be made.
    fn open(path: &Path, telemetry: Arc<Telemetry>, wake: Arc<Wake>) -> Result<Self> {
        let name = || {
            format!(
                "{}: cannot listen; `output.socket` needs a folder that this user may write",
                path.display()
            )
        };
        if let Ok(metadata) = fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                bail!("{}: exists and is no socket; choose another `output.socket`", path.display());
            }
            match connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).with_context(name)?;
                }
                // Whatever else it is, it may be alive.
                _ => bail!(
                    "{}: another process listens here; stop it or choose another `output.socket`",
                    path.display()
                ),
            }
        }
        let bound = Bound::new(path).with_context(name)?;
        wake.watch(&bound.listener);
        log::info!("events on the socket {}", path.display());
        let (path, bound) = (path.to_owned(), Mutex::new(bound));
        Ok(Self { path, bound, readers: Mutex::default(), telemetry, wake })
    }

    /// Makes the socket anew if somebody has deleted it. What another process has put there stays.
    /// Gives when to look again.
    fn keep(&self) -> Instant {
        let mut bound = lock(&self.bound);
        if bound.checked.elapsed() >= CHECK {
            bound.checked = Instant::now();
            let there = fs::symlink_metadata(&self.path);
            let result = match there {
                Ok(metadata) if metadata.ino() == bound.inode => Ok(None),
                Ok(_) => Err(io::Error::new(ErrorKind::AlreadyExists, "somebody else has put a file there")),
                Err(error) if error.kind() == ErrorKind::NotFound => Bound::new(&self.path).map(Some),
                Err(error) => Err(error),
            };
            match result {
                Ok(None) => bound.told = false,
                Ok(Some(new)) => {
                    self.wake.watch(&new.listener);
                    log::warn!("{}: the socket was deleted, and is there again", self.path.display());
                    *bound = new;
                }
                Err(error) => {
                    if !std::mem::replace(&mut bound.told, true) {
                        log::warn!("{}: the socket of events is gone: {error}", self.path.display());
                    }
                }
            }
        }
        bound.checked + CHECK
    }

    /// Takes a line for all readers.
    fn write(&self, line: &str) {
        let mut readers = lock(&self.readers);
        for reader in readers.iter_mut() {
            if reader.pending.len() + line.len() > PENDING {
                self.telemetry.socket_dropped.one_more();
            } else {
                reader.pending.extend(line.as_bytes());
            }
        }
    }

    /// Accepts new readers, writes what waits, disconnects who is gone. Gives when the next reader that
    /// takes nothing has had its time.
    fn look(&self) -> Option<Instant> {
        let mut readers = lock(&self.readers);
        let bound = lock(&self.bound);
        while let Ok((stream, _)) = bound.listener.accept() {
            let admitted = readers.len() < READERS && stream.set_nonblocking(true).is_ok();
            if admitted {
                self.wake.watch(&stream);
                readers.push(Reader { stream, pending: VecDeque::new(), progress: Instant::now() });
            } else {
                self.telemetry.socket_refused.one_more();
                log::warn!(
                    "{}: a reader was refused, there are {} already",
                    self.path.display(),
                    readers.len()
                );
            }
        }
        drop(bound);
        readers.retain_mut(|reader| match reader.flush() {
            Ok(()) if reader.progress.elapsed() < PATIENCE => !reader.is_gone(),
            Ok(()) => {
                self.telemetry.socket_disconnected.one_more();
                log::warn!("{}: a reader that takes nothing was disconnected", self.path.display());
                false
            }
            Err(_) => false,
        });
        self.telemetry.socket_readers.set(readers.len() as u64);
        let waiting = readers.iter().filter(|reader| !reader.pending.is_empty());
        waiting.map(|reader| reader.progress + PATIENCE).min()
    }
}

impl Output for EventSocket {
    fn event(&self, line: &Arc<str>) {
        self.write(line);
    }

    fn tick(&self, _reach: &Reach) -> Option<Instant> {
        let check = self.keep();
        Some(self.look().map_or(check, |next| next.min(check)))
    }
}

/// Connects without waiting: one that listens and does not accept holds up nobody.
fn connect(path: &Path) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?)
}

impl Reader {
    /// Writes what the kernel takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.stream.write(self.pending.as_slices().0) {
                Ok(written) => {
                    self.pending.drain(..written);
                    self.progress = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.progress = Instant::now();
        Ok(())
    }

    /// Whether the other side has closed. It may have closed only its own direction: then it still reads.
    fn is_gone(&self) -> bool {
        let mut ends = [PollFd::new(&self.stream, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ends, Some(&now)).is_ok() && ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

impl Drop for EventSocket {
    fn drop(&mut self) {
        self.telemetry.socket_readers.set(0);
        // Another process may have taken the path.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == lock(&self.bound).inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    fn open(path: &Path) -> Result<(EventSocket, Arc<Telemetry>)> {
        let telemetry = Arc::new(Telemetry::default());
        Ok((EventSocket::open(path, telemetry.clone(), Arc::default())?, telemetry))
    }

    fn connect(path: &Path, socket: &EventSocket) -> UnixStream {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.look();
        stream
    }

    #[test]
    fn every_reader_gets_every_line_though_one_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (socket, telemetry) = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let slow = connect(&path, &socket);
        let lines = |stream: UnixStream| {
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map(Result::unwrap).take_while(|line| line != "end").count()
            })
        };
        let quick = [lines(connect(&path, &socket)), lines(connect(&path, &socket))];
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..1000 {
            let dropped = telemetry.socket_dropped.count();
            socket.write(&line);
            let wait = Instant::now();
            socket.look();
            assert!(wait.elapsed() < Duration::from_secs(5));
            // The quick ones need a moment of processor time; only the slow one may lose lines.
            let others = lock(&socket.readers)[1..].iter().map(|reader| reader.pending.len()).max().unwrap();
            if others > PENDING / 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(telemetry.socket_dropped.count() <= dropped + 1);
        }
        for _ in 0..1000 {
            socket.look();
            if lock(&socket.readers)[1..].iter().all(|reader| reader.pending.is_empty()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        socket.write("end\n");
        socket.look();
        for reader in quick {
            assert_eq!(reader.join().unwrap(), 1000);
        }
        assert!(telemetry.socket_dropped.count() > 100);
        drop(slow);
    }

    #[test]
    fn a_stuck_reader_is_disconnected_and_a_half_closed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (socket, telemetry) = open(&path).unwrap();
        let mut half = connect(&path, &socket);
        half.shutdown(std::net::Shutdown::Write).unwrap();
        let gone = connect(&path, &socket);
        drop(gone);
        let _stuck = connect(&path, &socket);
        assert_eq!(telemetry.socket_readers.value(), 2);
        lock(&socket.readers)[1].pending.extend(vec![b'x'; 8 << 20]);
        socket.look();
        let past = Instant::now().checked_sub(PATIENCE).unwrap();
        lock(&socket.readers)[1].progress = past;
        socket.look();
        assert_eq!(telemetry.socket_disconnected.count(), 1);
        assert_eq!(telemetry.socket_readers.value(), 1);
        socket.write("a\n");
        socket.look();
        let mut buffer = [0; 2];
        half.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"a\n");
    }

    #[test]
    fn a_socket_that_was_deleted_is_made_anew_and_readers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (socket, _) = open(&path).unwrap();
        let mut first = connect(&path, &socket);
        let later = || {
            lock(&socket.bound).checked = Instant::now().checked_sub(CHECK).unwrap();
            socket.keep();
        };
        fs::remove_file(&path).unwrap();
        socket.keep();
        assert!(!path.exists(), "not every time");
        later();
        let mut second = connect(&path, &socket);
        socket.write("a\n");
        socket.look();
        for reader in [&mut first, &mut second] {
            let mut buffer = [0; 2];
            reader.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"a\n");
        }
        // What another process puts there stays, at the end too.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        later();
        assert!(lock(&socket.bound).told);
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn readers_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (socket, telemetry) = open(&path).unwrap();
        let _readers: Vec<UnixStream> = (0..READERS + 2).map(|_| connect(&path, &socket)).collect();
        assert_eq!(telemetry.socket_refused.count(), 2);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (socket, _) = open(&path).unwrap();
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(socket);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(open(&path).err().unwrap().to_string().contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let error = open(&folder.path().join("missing/events")).err().unwrap().to_string();
        assert!(error.contains("missing/events"), "{error}");
    }
}
