//! Bytes with a deadline: of a file, a FIFO, standard input or a program.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::cause::ContentCause;
use super::command::Program;
use super::reading::{More, wait};
use super::settings::SourceConfig;
use crate::frame::SourceError;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    File,
    Fifo,
    Standard,
    Program,
}

enum Handle {
    File(File),
    Standard(io::Stdin),
    Program(Program),
}

/// See the module.
pub(super) struct Stream {
    path: String,
    kind: StreamKind,
    repeat: bool,
    handle: Handle,
    /// Read, not yet taken.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were taken.
    taken: usize,
    chunk: Vec<u8>,
}

impl Stream {
    pub(super) fn open(config: &SourceConfig) -> Result<Self, SourceError> {
        let path = config.path.clone();
        let (kind, handle) = if path == "-" {
            (StreamKind::Standard, Handle::Standard(io::stdin()))
        } else {
            let failed = |cause| SourceError::File { path: path.clone(), action: "open", cause };
            let file_type = fs::metadata(&path).map_err(failed)?.file_type();
            let kind = if file_type.is_fifo() { StreamKind::Fifo } else { StreamKind::File };
            if kind == StreamKind::File && !file_type.is_file() {
                return Err(failed(io::Error::other("neither a file nor a FIFO")));
            }
            (kind, Handle::File(open_without_waiting(&path).map_err(failed)?))
        };
        Ok(Self::new(path, kind, config.repeat, handle))
    }

    /// What a program writes.
    pub(super) fn of(program: Program) -> Self {
        Self::new(program.name().to_owned(), StreamKind::Program, false, Handle::Program(program))
    }

    fn new(path: String, kind: StreamKind, repeat: bool, handle: Handle) -> Self {
        Self { path, kind, repeat, handle, buffer: vec![], taken: 0, chunk: vec![0; CHUNK] }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn kind(&self) -> StreamKind {
        self.kind
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// Gives back the memory, if nothing is in it.
    pub(super) fn shrink(&mut self) {
        if self.bytes().is_empty() {
            (self.buffer, self.taken) = (vec![], 0);
        }
    }

    /// Reads something more.
    pub(super) fn more(&mut self, deadline: Instant) -> Result<More, SourceError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let failed = |cause| SourceError::File { path: self.path.clone(), action: "read", cause };
        let chunk = &mut self.chunk;
        let more = match &mut self.handle {
            Handle::File(file) => {
                let ready = wait(&mut [PollFd::new(&*file, PollFlags::IN)], deadline).map_err(failed)?;
                if ready { More::of(file.read(chunk)) } else { Ok(More::Nothing) }
            }
            Handle::Standard(input) => {
                let ready = wait(&mut [PollFd::new(&*input, PollFlags::IN)], deadline).map_err(failed)?;
                if ready { More::of(input.lock().read(chunk)) } else { Ok(More::Nothing) }
            }
            Handle::Program(program) => program.read(chunk, deadline),
        };
        let more = more.map_err(failed)?;
        if let More::Bytes(bytes) = more {
            self.buffer.extend_from_slice(&self.chunk[..bytes]);
        }
        Ok(more)
    }

    /// After the end of the bytes: whether others will follow.
    pub(super) fn restart(&mut self) -> Result<bool, SourceError> {
        let path = &self.path;
        let failed = |cause| SourceError::File { path: path.clone(), action: "reopen", cause };
        self.buffer.clear();
        self.taken = 0;
        match (self.kind, &mut self.handle) {
            (StreamKind::File, Handle::File(file)) if self.repeat => {
                file.rewind().map_err(failed)?;
                Ok(true)
            }
            (StreamKind::Fifo, handle) => {
                // A new handle waits for the next writer; the old one would report the end for ever.
                *handle = Handle::File(open_without_waiting(path).map_err(failed)?);
                Ok(true)
            }
            (_, Handle::Program(program)) => Err(program.ended()),
            _ => Ok(false),
        }
    }

    /// What a stream is told that is open and gives nothing.
    pub(super) fn silent(&self, silence: Duration) -> SourceError {
        let cause = ContentCause::Silent(silence);
        match &self.handle {
            Handle::Program(program) => program.error(cause),
            _ => SourceError::Content { path: self.path.clone(), cause },
        }
    }
}

/// Opening a FIFO that nobody writes to would wait for ever.
fn open_without_waiting(path: &str) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    File::options().read(true).custom_flags(flags.bits() as i32).open(path)
}
