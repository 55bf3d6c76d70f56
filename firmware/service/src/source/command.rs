//! A program that writes frames to its standard output, and how it is ended.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use resight_base::wait::until;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process_group, set_parent_process_death_signal,
    waitid,
};

use super::cause::ContentCause;
use super::reading::{More, wait};
use super::said::Said;
use super::settings::{SourceConfig, SourceKind};
use crate::frame::SourceError;

/// How long it may take to end after SIGTERM, and then after SIGKILL.
const GRACE: Duration = Duration::from_secs(1);

/// How long its last words are waited for after its last frame.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How often it is looked at while it ends.
const LOOK: Duration = Duration::from_millis(5);

/// Bytes that may wait in its pipe, so that it is woken less often.
const PIPE: usize = 1 << 20;

/// Variables of the environment that are none of its business.
const OURS: [&str; 5] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "RESIGHT_HTTP_TOKEN", "JOURNAL_STREAM"];

/// A program that runs. It is ended when this is dropped, with all that it has started in its process
/// group, and by the kernel when this process dies.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    child: Child,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    said: Said,
}

impl Program {
    /// Starts `arguments`, the first being the program. The calling thread must live as long as it: the
    /// kernel takes the thread for the parent.
    ///
    /// # Errors
    /// A program that is not there or may not be run.
    pub(super) fn start(name: &str, arguments: &[String]) -> Result<Self, SourceError> {
        let failed = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "; install it, or give its whole path",
                io::ErrorKind::PermissionDenied => "; the service's user must be allowed to run it",
                _ => "",
            };
            SourceError::Content { path: name.to_owned(), cause: ContentCause::Start { error, remedy } }
        };
        let (program, arguments) =
            arguments.split_first().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        for name in OURS {
            command.env_remove(name);
        }
        let parent = getpid();
        let dies_with_us = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // This process may have died before that.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        // SAFETY: between fork and exec, it makes two system calls and takes no lock and no memory.
        unsafe { command.pre_exec(dies_with_us) };
        let mut child = command.spawn().map_err(failed)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let Some(output) = output else { return Err(failed(io::ErrorKind::BrokenPipe.into())) };
        // Slower without.
        let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE);
        let program = Self { name: name.to_owned(), child, output, errors, said: Said::default() };
        program.never_wait().map_err(|cause| failed(cause.into()))?;
        Ok(program)
    }

    fn never_wait(&self) -> rustix::io::Result<()> {
        fcntl_setfl(&self.output, fcntl_getfl(&self.output)? | OFlags::NONBLOCK)?;
        match &self.errors {
            Some(errors) => fcntl_setfl(errors, fcntl_getfl(errors)? | OFlags::NONBLOCK),
            None => Ok(()),
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads what it writes, and logs what it says.
    pub(super) fn read(&mut self, chunk: &mut [u8], deadline: Instant) -> io::Result<More> {
        let ready = match &self.errors {
            Some(errors) => {
                let both = [PollFd::new(&self.output, PollFlags::IN), PollFd::new(errors, PollFlags::IN)];
                wait(&mut { both }, deadline)?
            }
            None => wait(&mut [PollFd::new(&self.output, PollFlags::IN)], deadline)?,
        };
        if !ready {
            return Ok(More::Nothing);
        }
        self.listen();
        More::of(self.output.read(chunk))
    }

    /// Takes what it has said. `false` if it will say nothing more.
    fn listen(&mut self) -> bool {
        let Some(errors) = &mut self.errors else { return false };
        let mut bytes = [0; 4096];
        match More::of(errors.read(&mut bytes)) {
            Ok(More::Bytes(count)) => {
                let name = &self.name;
                self.said.push(&bytes[..count], |line| log::warn!("{name}: {line}"));
                true
            }
            Ok(More::Nothing) => true,
            Ok(More::End) | Err(_) => {
                self.errors = None;
                false
            }
        }
    }

    /// It has closed its standard output: how it ended, and its last words.
    pub(super) fn ended(&mut self) -> SourceError {
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline && self.listen() {
            if let Some(errors) = &self.errors
                && wait(&mut [PollFd::new(errors, PollFlags::IN)], deadline).is_err()
            {
                break;
            }
        }
        self.said.finish();
        let has_ended = until(deadline, LOOK, || self.has_ended());
        self.end();
        match self.child.try_wait() {
            Ok(Some(status)) if has_ended => self.error(ContentCause::Ended(status)),
            _ => self.error(ContentCause::Closed),
        }
    }

    /// An error with what it said last.
    pub(super) fn error(&self, cause: ContentCause) -> SourceError {
        let said = self.said.text();
        let cause = if said.is_empty() { cause } else { ContentCause::Said { cause: Box::new(cause), said } };
        SourceError::Content { path: self.name.clone(), cause }
    }

    /// Whether it is dead; its number is nobody else's until it is waited for.
    fn has_ended(&self) -> bool {
        !matches!(self.pid().map(look_at), Some(Ok(false)))
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Ends it with all that it has started.
    fn end(&mut self) {
        let Some(group) = self.pid() else { return };
        // As long as it was not waited for, the group cannot be another one of the same number.
        if look_at(group).is_err() {
            return;
        }
        // Each fails when nobody is left.
        let _ = kill_process_group(group, Signal::TERM);
        until(Instant::now() + GRACE, LOOK, || self.has_ended());
        let _ = kill_process_group(group, Signal::KILL);
        if !until(Instant::now() + GRACE, LOOK, || !matches!(self.child.try_wait(), Ok(None))) {
            log::error!("{}: the program cannot be ended", self.name);
        }
    }
}

/// Whether a child is dead; it can still be waited for.
///
/// # Errors
/// One that was waited for already.
fn look_at(child: Pid) -> rustix::io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(child), options)?.is_some())
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// The program of a source, if it is one that cannot be found on this machine.
pub(crate) fn missing_program(config: &SourceConfig) -> Option<&str> {
    let SourceKind::Command(command) = &config.kind else { return None };
    let program = command.arguments.first()?;
    let found = if program.contains('/') {
        Path::new(program).is_file()
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
    };
    (!found).then_some(program)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
