//! Changes of a file, told by the kernel where it tells of them.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

/// Kinds of file systems (`f_type` of statfs(2)) whose changes the kernel tells of, whoever makes them: ext2
/// to ext4, XFS, Btrfs, F2FS, tmpfs, ramfs and overlayfs. Of most attributes in sysfs it says nothing, and of
/// a folder in the network only what this machine does.
const TOLD: [u32; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0x8584_58f6, 0x794c_7630];

/// Bytes of events that are read at once.
const EVENTS: usize = 4 << 10;

/// A file that is watched: what is written to it, to the end, and what takes its place.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    /// `None` where the kernel does not tell.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let kind = rustix::fs::statfs(folder).ok()?.f_type as u32;
        if !TOLD.contains(&kind) {
            return None;
        }
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let what = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        inotify::add_watch(&queue, folder, what | WatchFlags::ONLYDIR).ok()?;
        let watch = Self(queue);
        watch.follow(path);
        Some(watch)
    }

    /// Watches the file that has this name now. Who begins to write has made it empty, so its end counts.
    fn follow(&self, path: &Path) {
        // Without the file, its folder tells when there is one.
        let _ = inotify::add_watch(&self.0, path, WatchFlags::CLOSE_WRITE);
    }

    /// Takes what was told so far.
    pub(super) fn take(&self, path: &Path) {
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut reader = Reader::new(&self.0, &mut buffer);
        // It ends when there is nothing more; what is wrong shows when the file is read.
        while reader.next().is_ok() {}
        self.follow(path);
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
