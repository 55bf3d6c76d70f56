//! The threads of the stages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::capture::{self, CameraLink, CaptureStage, NewSource};
use super::ending::Ending;
use super::panic::vital;
use crate::sync::Bell;
use crate::threads::{Role, spawn};

/// How long what gives the frames may take to end: the longest look for a frame, and then a program's
/// grace.
const LEAVE: Duration = Duration::from_millis(2500);

/// A stage's thread.
pub(super) struct Stage {
    thread: JoinHandle<()>,
    /// Whether its work is done; the thread itself ends a little later.
    ended: Arc<AtomicBool>,
}

impl Stage {
    /// Starts it. It is vital, and the supervisor is woken at its end.
    ///
    /// # Errors
    /// A system without room for a thread.
    pub(super) fn start(
        ending: &Arc<Ending>,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let (ending, ended) = (ending.clone(), Arc::new(AtomicBool::new(false)));
        let done = ended.clone();
        let thread = spawn(name, Role::Vital, None, move || {
            vital(&ending, work);
            done.store(true, Ordering::SeqCst);
            ending.supervisor.ring();
        })?;
        Ok(Self { thread, ended })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Waits for the end of its work, which rings the supervisor's bell.
    pub(super) fn wait(&self, supervisor: &Bell, deadline: Instant) {
        while !self.has_ended() && Instant::now() < deadline {
            supervisor.wait(Some(deadline));
        }
    }

    /// Waits for its end. `false` if it panicked.
    pub(super) fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// The capture stages: one for each camera, which come and go with reloads.
pub(super) struct Captures {
    ending: Arc<Ending>,
    running: Vec<Capture>,
}

struct Capture {
    link: Arc<CameraLink>,
    stage: Stage,
    /// Whether its source must have ended before the service does.
    must_be_ended: bool,
}

impl Captures {
    pub(super) fn new(ending: &Arc<Ending>) -> Self {
        Self { ending: ending.clone(), running: vec![] }
    }

    /// Starts those of cameras that have none yet; takes their sources. If one cannot be started, none of
    /// them goes on.
    ///
    /// # Errors
    /// A system without room for a thread.
    pub(super) fn start(
        &mut self,
        links: &[Arc<CameraLink>],
        sources: &mut [Option<NewSource>],
    ) -> Result<()> {
        // Of cameras that a reload took away before.
        self.running.retain(|capture| !capture.stage.has_ended() || has(links, &capture.link));
        let before = self.running.len();
        for (link, source) in links.iter().zip(sources) {
            if self.running.iter().any(|capture| Arc::ptr_eq(&capture.link, link)) {
                continue;
            }
            let Some(source) = source.take() else { continue };
            let must_be_ended = source.must_be_ended();
            let (stage, ending) = (CaptureStage::new(source, link.clone()), self.ending.clone());
            let work = move || capture::run(stage, || ending.stopping());
            match Stage::start(&self.ending, "capture", work) {
                Ok(stage) => self.running.push(Capture { link: link.clone(), stage, must_be_ended }),
                Err(error) => {
                    self.running.drain(before..).for_each(|capture| capture.link.remove());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Goes on with these cameras: gives them their new sources, and ends the others.
    pub(super) fn follow(&mut self, links: &[Arc<CameraLink>], sources: Vec<Option<NewSource>>) {
        for (link, source) in links.iter().zip(sources) {
            let Some(source) = source else { continue };
            let capture = self.running.iter_mut().find(|capture| Arc::ptr_eq(&capture.link, link));
            if let Some(capture) = capture {
                capture.must_be_ended = source.must_be_ended();
            }
            link.sources.put(source);
            link.frames.emptied.ring();
        }
        for capture in self.running.iter().filter(|capture| !has(links, &capture.link)) {
            capture.link.remove();
        }
    }

    /// Bells of those that wait.
    pub(super) fn bells(&self) -> impl Iterator<Item = Arc<Bell>> {
        self.running.iter().map(|capture| capture.link.frames.emptied.clone())
    }

    /// Waits for those that must have ended, for a while, now that they are told to. `false` if one
    /// panicked.
    pub(super) fn end(self) -> bool {
        let deadline = Instant::now() + LEAVE;
        let mut whole = true;
        for Capture { stage, must_be_ended, .. } in self.running {
            if stage.has_ended() {
                whole &= stage.join();
            } else if must_be_ended {
                stage.wait(&self.ending.supervisor, deadline);
            }
            // A decoder may be busy for a while, but nothing depends on it any more.
        }
        whole
    }
}

fn has(links: &[Arc<CameraLink>], link: &Arc<CameraLink>) -> bool {
    links.iter().any(|other| Arc::ptr_eq(other, link))
}
