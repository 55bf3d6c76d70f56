//! The capture stage: a source in, the newest frame out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use resight_base::retry::Backoff;

use super::mailbox::{FrameSlot, Slot};
use crate::camera::Wanted;
use crate::frame::{Frame, Next, Source, SourceError};
use crate::names::{Prefix, SharedNames};
use crate::source::{self, SourceConfig};
use crate::status::{CameraBoard, SourceReport};
use crate::sync::Bell;

/// How long a source may take before the stage looks whether there is another one. Frames that come
/// are taken at once.
const WAIT: Duration = Duration::from_millis(500);

/// The longest time in which the stage that does not hang says so.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// A source that is to replace the running one. One that may be missing is opened later.
pub(crate) struct NewSource {
    config: SourceConfig,
    wanted: Wanted,
    source: Option<Box<dyn Source>>,
    live: bool,
}

impl NewSource {
    /// Opens what can be opened now.
    ///
    /// # Errors
    /// A file that is missing or not what the configuration says.
    pub(crate) fn open(config: &SourceConfig, wanted: Wanted) -> Result<Self, SourceError> {
        // Nor is a camera opened here: the source that this replaces may still hold it.
        let (source, live) = if config.may_come_later() {
            (None, true)
        } else {
            let (source, live) = source::open(config, wanted)?;
            (Some(source), live)
        };
        Ok(Self { config: config.clone(), wanted, source, live })
    }

    /// Whether it must have ended before the service does.
    pub(crate) fn must_be_ended(&self) -> bool {
        self.config.must_be_ended()
    }
}

/// When the stage last finished looking for a frame.
#[derive(Debug, Default)]
pub(crate) struct Looked(AtomicU64);

impl Looked {
    pub(super) fn now(&self, at: Duration) {
        self.0.store(at.as_millis() as u64, Ordering::SeqCst);
    }

    /// Whether that was not too long ago.
    pub(crate) fn is_recent(&self, now: Duration) -> bool {
        now.saturating_sub(Duration::from_millis(self.0.load(Ordering::SeqCst))) < LOOK
    }
}

/// Where the stages meet about a camera. It outlives reloads, as long as the camera stays.
pub(crate) struct CameraLink {
    /// What it is called, if there are several.
    name: Option<String>,
    pub(crate) board: Arc<CameraBoard>,
    pub(crate) frames: FrameSlot,
    /// A source that is to replace the running one.
    pub(crate) sources: Slot<NewSource>,
    pub(crate) looked: Looked,
    /// Whether there is no such camera any more.
    removed: AtomicBool,
}

impl CameraLink {
    /// Of a camera with these names; `filled` is rung when it has a frame, and times are since `start`.
    pub(crate) fn new(start: Instant, names: &SharedNames, filled: Arc<Bell>) -> Self {
        let link = Self {
            name: names.camera.clone(),
            board: Arc::new(CameraBoard::new(start, names)),
            frames: FrameSlot::ringing(filled),
            sources: Slot::default(),
            looked: Looked::default(),
            removed: AtomicBool::new(false),
        };
        // It has begun to look, as far as anybody can tell yet.
        link.looked.now(link.board.now());
        link
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// There is no such camera any more: whoever captures ends.
    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
        self.frames.emptied.ring();
    }

    fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }
}

type Open = dyn FnMut(&SourceConfig, Wanted) -> Result<Box<dyn Source>, SourceError> + Send;

/// What the stage does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Look again at once.
    Again,
    /// Look again when the bell rings, after this time at the latest.
    Wait(Duration),
    /// There are no more frames.
    End,
}

/// See the module.
pub(crate) struct CaptureStage {
    link: Arc<CameraLink>,
    open: Box<Open>,
    current: NewSource,
    frame: Frame,
    number: u64,
    streaming: bool,
    backoff: Backoff,
    /// When the source was opened.
    opened: Instant,
    retry_at: Instant,
}

impl CaptureStage {
    pub(crate) fn new(first: NewSource, link: Arc<CameraLink>) -> Self {
        let open = |config: &SourceConfig, wanted| source::open(config, wanted).map(|(source, _)| source);
        let backoff = first.config.backoff();
        let mut stage = Self {
            link,
            open: Box::new(open),
            current: first,
            frame: Frame::new(),
            number: 0,
            streaming: false,
            backoff,
            opened: Instant::now(),
            retry_at: Instant::now(),
        };
        stage.begin();
        stage
    }

    /// Begins with the source that is there now.
    fn begin(&mut self) {
        (self.backoff, self.streaming) = (self.current.config.backoff(), false);
        (self.opened, self.retry_at) = (Instant::now(), Instant::now());
        let path = self.current.config.path.clone();
        self.link.board.set_source(|source| *source = SourceReport { path, ..SourceReport::default() });
    }

    /// Looks for one frame.
    pub(crate) fn step(&mut self) -> Step {
        self.link.looked.now(self.link.board.now());
        if let Some(new) = self.link.sources.take() {
            self.current = new;
            self.begin();
        }
        if !self.current.live && !self.link.frames.has_room() {
            return Step::Wait(LOOK / 5);
        }
        let next = if let Some(source) = &mut self.current.source {
            source.next(&mut self.frame, WAIT)
        } else {
            let left = self.retry_at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Step::Wait(left.min(LOOK / 5));
            }
            (self.open)(&self.current.config, self.current.wanted).map(|opened| {
                log::info!("{}{}: the source is open", Prefix(self.link.name()), self.current.config.path);
                self.link.board.set_source(|source| source.error = None);
                self.current.source = Some(opened);
                self.opened = Instant::now();
                Next::Nothing
            })
        };
        self.take(next)
    }

    fn take(&mut self, next: Result<Next, SourceError>) -> Step {
        let telemetry = &self.link.board.telemetry;
        match next {
            Ok(Next::Frame) => {
                if self.opened.elapsed() >= self.current.config.trial() {
                    self.backoff.reset();
                }
                if !std::mem::replace(&mut self.streaming, true) {
                    self.link.board.set_source(|source| source.streaming = true);
                }
                self.number += 1;
                self.frame.number = self.number;
                telemetry.frames.one_more();
                let dropped = self.link.frames.put(&mut self.frame);
                let lost = self.current.source.as_mut().map_or(0, |source| source.dropped());
                telemetry.dropped.add(u64::from(dropped) + lost);
            }
            Ok(Next::Nothing) => {}
            Ok(Next::Corrupt(cause)) => {
                telemetry.corrupt.one_more();
                log::warn!("{}corrupt frame: {cause}", Prefix(self.link.name()));
            }
            Ok(Next::End) => {
                let name = Prefix(self.link.name());
                log::info!("{name}{}: the frames are at their end", self.current.config.path);
                self.link.board.set_source(|source| source.ended = true);
                return Step::End;
            }
            Err(error) => {
                telemetry.source_errors.one_more();
                let what = if self.streaming { "source lost" } else { "no source" };
                log::error!("{}{what}: {error}; trying again and again", Prefix(self.link.name()));
                let error = error.to_string();
                self.link.board.set_source(|source| (source.streaming, source.error) = (false, Some(error)));
                (self.current.source, self.streaming) = (None, false);
                self.retry_at = Instant::now() + self.backoff.pause();
            }
        }
        Step::Again
    }
}

/// The thread. However it ends, what it handed over is still classified.
pub(crate) fn run(mut stage: CaptureStage, stop: impl Fn() -> bool) {
    let link = stage.link.clone();
    while !stop() && !link.is_removed() {
        match stage.step() {
            Step::Again => {}
            Step::Wait(longest) => link.frames.emptied.wait(Some(Instant::now() + longest)),
            Step::End => break,
        }
    }
    link.frames.close();
}
