//! Applying the configuration file anew, or keeping what runs.
//!
//! What may take long, or for ever, runs on a thread of its own: reading, loading the model and its
//! self-test. It opens what is new beside what runs, and nothing of what runs has changed until the
//! supervisor installs the whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use super::capture::{CameraLink, NewSource};
use super::infer::Program;
use super::mailbox::Slot;
use crate::config::{Config, ViewpointConfig};
use crate::lines::{Lines, inputs};
use crate::outputs::{self, OutputList};
use crate::reach::Reach;
use crate::status::StatusBoard;
use crate::sync::Bell;
use crate::threads::{Role, caught, spawn};

/// What a reload needs of what runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) path: PathBuf,
    pub(crate) config: Arc<Config>,
    /// One for each camera of the configuration.
    pub(crate) links: Vec<Arc<CameraLink>>,
    /// Rung when a camera has a frame.
    pub(crate) filled: Arc<Bell>,
    pub(crate) outputs: OutputList,
    pub(crate) lines: Arc<Lines>,
    pub(crate) board: Arc<StatusBoard>,
    pub(crate) reach: Reach,
    /// Rung when an input has changed.
    pub(crate) changed: Arc<Bell>,
}

/// What was opened beside what runs.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) program: Program,
    /// For each camera, if it is another one.
    pub(crate) sources: Vec<Option<NewSource>>,
    pub(crate) outputs: OutputList,
}

/// The thread that prepares, one reload after another. It is the same for all of them, because the
/// allocator keeps memory for each thread that there was.
pub(crate) struct Reloader {
    wanted: Arc<Slot<Running>>,
    bell: Arc<Bell>,
    /// What came of it, as soon as it is there.
    result: Arc<Slot<Result<Prepared>>>,
    busy: bool,
}

impl Reloader {
    /// Starts the thread; `supervisor` is rung when a reload is prepared.
    ///
    /// # Errors
    /// A system without room for a thread.
    pub(crate) fn start(supervisor: Arc<Bell>) -> Result<Self> {
        let reloader =
            Self { wanted: Arc::default(), bell: Arc::default(), result: Arc::default(), busy: false };
        let (wanted, bell, result) =
            (reloader.wanted.clone(), reloader.bell.clone(), reloader.result.clone());
        let work = move || {
            loop {
                bell.wait(None);
                if let Some(running) = wanted.take() {
                    result.put(caught("loading the new configuration", || prepare(&running)));
                    drop(running);
                    supervisor.ring();
                }
            }
        };
        spawn::<()>("reload", Role::Caught, None, work)?;
        Ok(reloader)
    }

    /// Whether a reload is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Begins to prepare.
    pub(crate) fn begin(&mut self, running: Running) {
        self.busy = true;
        self.wanted.put(running);
        self.bell.ring();
    }

    /// What came of it, once it is done: the new configuration, or why it is refused.
    pub(crate) fn finished(&mut self) -> Option<Result<Prepared>> {
        let result = self.result.take();
        self.busy &= result.is_none();
        result
    }
}

fn prepare(running: &Running) -> Result<Prepared> {
    let Running { path, lines, board, outputs, reach, changed, filled, .. } = running;
    let path: &Path = path;
    let config = Config::load(path)?;
    let kept: Vec<Option<Kept>> = config.cameras.iter().map(|camera| kept(camera, running)).collect();
    let mut program = Program::load(path, &config, |camera, names| match &kept[camera] {
        Some(kept) => kept.link.clone(),
        None => Arc::new(CameraLink::new(board.start, names, filled.clone())),
    })?;
    let mut sources = vec![];
    for ((camera, viewpoint), kept) in config.cameras.iter().zip(&program.engine.viewpoints).zip(&kept) {
        let is_same = kept.as_ref().is_some_and(|kept| kept.same_source);
        let open = || NewSource::open(&camera.source, viewpoint.wanted);
        sources.push((!is_same).then(open).transpose()?);
    }
    let outputs = outputs::open(&config.output, outputs, reach)?;
    // Last, because it moves wires: what was refused before has touched nothing.
    let inputs = inputs(&config.inputs, &board.inputs(), changed)?;
    program.wire(lines.prepare(&config.lines)?, inputs);
    Ok(Prepared { config, program, sources, outputs })
}

/// A camera that was there before.
struct Kept {
    link: Arc<CameraLink>,
    same_source: bool,
}

/// The running camera of that name. One whose frames are at their end begins anew with another source.
fn kept(camera: &ViewpointConfig, running: &Running) -> Option<Kept> {
    let mut known = running.config.cameras.iter().zip(&running.links);
    let (before, link) = known.find(|(before, _)| before.name == camera.name)?;
    let same_source = before.source == camera.source;
    (same_source || !link.frames.is_closed()).then(|| Kept { link: link.clone(), same_source })
}
