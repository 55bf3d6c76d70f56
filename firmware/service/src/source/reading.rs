//! Reading with a deadline.

use std::io;
use std::time::Instant;

use rustix::event::{PollFd, Timespec, poll};

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Bytes(usize),
    /// Not in time, or nothing of use.
    Nothing,
    End,
}

impl More {
    /// What a reader's answer means.
    ///
    /// # Errors
    /// Those that do not go away by waiting.
    pub(super) fn of(read: io::Result<usize>) -> io::Result<Self> {
        match read {
            Ok(0) => Ok(Self::End),
            Ok(bytes) => Ok(Self::Bytes(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Self::Nothing)
            }
            Err(error) => Err(error),
        }
    }
}

/// Waits until one of them has something; `false` if none has in time.
pub(super) fn wait(for_any: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(for_any, Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
