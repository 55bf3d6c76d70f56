//! Where the stages meet: bounded, typed, each with one thread that takes from it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::frame::Frame;
use crate::judge::{Change, Observation, Rules, Switch, SwitchError, Switches};
use crate::lines::{InputList, LineList};
use crate::names::SharedNames;
use crate::queue::{Popped, Queue};
use crate::status::CameraBoard;
use crate::switches::Keeper;
use crate::sync::{Bell, lock};

/// An observation on its way to the judge, and back with what is to be pictured.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The number of the camera.
    pub(crate) camera: usize,
    pub(crate) observation: Observation,
    /// Rules that became active by this frame.
    pub(crate) snapshots: Vec<Change>,
}

/// Rules of all cameras with the lines and inputs themselves: what a reload replaces.
pub(crate) struct NewRules {
    pub(crate) cameras: Vec<CameraRules>,
    pub(crate) lines: LineList,
    pub(crate) inputs: InputList,
}

/// The rules of a camera.
pub(crate) struct CameraRules {
    pub(crate) rules: Rules,
    pub(crate) names: SharedNames,
    /// Where it is told how they stand.
    pub(crate) board: Arc<CameraBoard>,
}

/// One thing that is to be taken; a newer one replaces it.
#[derive(Debug)]
pub(crate) struct Slot<T>(Mutex<Option<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Slot<T> {
    pub(crate) fn put(&self, thing: T) {
        // What it replaces is dropped when the lock is free again.
        let _old = lock(&self.0).replace(thing);
    }

    pub(crate) fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_none()
    }
}

/// The newest frame, from capture to inference. The memory of frames goes round.
#[derive(Default)]
pub(crate) struct FrameSlot {
    state: Mutex<FrameState>,
    /// Rung for who takes.
    pub(crate) filled: Arc<Bell>,
    /// Rung for who puts.
    pub(crate) emptied: Arc<Bell>,
}

#[derive(Default)]
struct FrameState {
    frame: Option<Frame>,
    spare: Option<Frame>,
    closed: bool,
}

/// What the slot has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Frame,
    Nothing,
    /// There will be no more.
    Closed,
}

impl FrameSlot {
    /// For whoever takes from several, and is woken by each.
    pub(crate) fn ringing(filled: Arc<Bell>) -> Self {
        Self { filled, ..Self::default() }
    }

    /// Hands over a frame and gives another's memory. `true` if one that nobody took is lost.
    pub(crate) fn put(&self, frame: &mut Frame) -> bool {
        let mut state = lock(&self.state);
        let (dropped, spare) = match state.frame.take() {
            Some(old) => (true, old),
            None => (false, state.spare.take().unwrap_or_else(Frame::new)),
        };
        state.frame = Some(std::mem::replace(frame, spare));
        drop(state);
        self.filled.ring();
        dropped
    }

    /// Whether the frame was taken.
    pub(crate) fn has_room(&self) -> bool {
        lock(&self.state).frame.is_none()
    }

    /// Takes the frame that is there.
    pub(crate) fn take(&self, frame: &mut Frame) -> Taken {
        let mut state = lock(&self.state);
        match state.frame.take() {
            Some(new) => {
                state.spare = Some(std::mem::replace(frame, new));
                drop(state);
                self.emptied.ring();
                Taken::Frame
            }
            None if state.closed => Taken::Closed,
            None => Taken::Nothing,
        }
    }

    /// Whether there will be no more frames.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Whether there will be no more frames, and there is none.
    pub(crate) fn is_done(&self) -> bool {
        let state = lock(&self.state);
        state.closed && state.frame.is_none()
    }

    /// There will be no more frames; one that is there can still be taken.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.ring();
    }
}

/// Requests that may wait for the judge; each is of somebody who waits for its answer.
const REQUESTS: usize = 16;

/// How long somebody waits for the judge.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the judge is asked for between two frames.
pub(crate) enum Request {
    Switch(Switch, SyncSender<Result<Switches, SwitchError>>),
    /// Goes on with other rules, and says when it does.
    Replace(Box<NewRules>, Arc<Bell>, Arc<AtomicBool>),
}

/// What the judge takes from. Observations have a place of their own: on the way from a frame to a
/// wire nobody is met but inference and judge.
#[derive(Default)]
pub(crate) struct JudgeMail {
    observation: Slot<Judgement>,
    answer: Slot<Judgement>,
    /// Rung for inference: the judge has answered, or has gone.
    answered: Bell,
    requests: Queue<Request, REQUESTS>,
    closed: AtomicBool,
    gone: AtomicBool,
    /// Rung for the judge: there is something, or it is time to look at the inputs.
    pub(crate) bell: Arc<Bell>,
}

impl JudgeMail {
    /// Has a frame judged, and waits for it: the watchdog is to know that the lines were driven, and
    /// under a real-time scheduler the next inference must not keep the judge from its processor.
    /// `None` if the judge has gone.
    pub(crate) fn judge(&self, judgement: Judgement) -> Option<Judgement> {
        self.observation.put(judgement);
        self.bell.ring();
        loop {
            if let Some(judged) = self.answer.take() {
                return Some(judged);
            }
            if self.gone.load(Ordering::SeqCst) {
                return None;
            }
            self.answered.wait(None);
        }
    }

    /// Goes on with other rules, and waits until the judge does, or has gone.
    pub(crate) fn replace(&self, rules: NewRules) {
        let (bell, done) = (Arc::new(Bell::default()), Arc::new(AtomicBool::new(false)));
        let mut request = Request::Replace(Box::new(rules), bell.clone(), done.clone());
        while !self.gone.load(Ordering::SeqCst) {
            match self.requests.offer(request) {
                Ok(()) => break,
                // Each that waits there is answered soon.
                Err(refused) => request = refused,
            }
            bell.wait(Some(Instant::now() + Duration::from_millis(5)));
        }
        self.bell.ring();
        while !done.load(Ordering::SeqCst) && !self.gone.load(Ordering::SeqCst) {
            bell.wait(Some(Instant::now() + PATIENCE));
        }
    }

    /// The next observation.
    pub(super) fn observation(&self) -> Option<Judgement> {
        self.observation.take()
    }

    /// Whether no frame waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.observation.is_empty()
    }

    pub(super) fn answer(&self, judgement: Judgement) {
        self.answer.put(judgement);
        self.answered.ring();
    }

    /// The next request.
    pub(super) fn request(&self) -> Option<Request> {
        match self.requests.pop(Duration::ZERO) {
            Popped::Item(request) => Some(request),
            Popped::Nothing | Popped::Closed => None,
        }
    }

    /// The judge is needed no more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The judge answers no more.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.requests.close();
        while self.request().is_some() {}
        self.answered.ring();
    }
}

/// Whoever may switch dry run and rules.
pub(crate) struct Switcher {
    mail: Arc<JudgeMail>,
    /// Locked while something is switched, so that what is kept is what was switched last.
    keeper: Mutex<Keeper>,
}

impl Switcher {
    pub(crate) fn new(mail: Arc<JudgeMail>, keeper: Keeper) -> Self {
        Self { mail, keeper: Mutex::new(keeper) }
    }

    /// Switches something, and keeps it for after a restart.
    ///
    /// # Errors
    /// A rule that is not there, a dry run that the configuration asks for, a judge that is busy.
    pub(crate) fn switch(&self, switch: &Switch) -> Result<(), SwitchError> {
        let keeper = lock(&self.keeper);
        let (sender, receiver): (_, Receiver<Result<Switches, SwitchError>>) = sync_channel(1);
        if !self.mail.requests.push(Request::Switch(switch.clone(), sender)) {
            return Err(SwitchError::Busy);
        }
        self.mail.bell.ring();
        let switches = receiver.recv_timeout(PATIENCE).map_err(|_| SwitchError::Busy)??;
        keeper.keep(&switches);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::judge::Finding;

    fn numbered(number: u64) -> Frame {
        Frame { number, ..Frame::new() }
    }

    #[test]
    fn the_newest_frame_wins_and_the_others_are_counted() {
        let slot = FrameSlot::default();
        assert!(!slot.put(&mut numbered(1)));
        assert!(slot.put(&mut numbered(2)));
        assert!(!slot.has_room());
        slot.close();
        let mut frame = Frame::new();
        assert_eq!(slot.take(&mut frame), Taken::Frame);
        assert_eq!(frame.number, 2);
        assert!(slot.has_room());
        assert_eq!(slot.take(&mut frame), Taken::Closed);
    }

    #[test]
    fn the_memory_of_frames_goes_round() {
        let slot = FrameSlot::default();
        let (mut captured, mut taken) = (Frame::new(), Frame::new());
        let mut pointers = std::collections::HashSet::new();
        for _ in 0..20 {
            captured.bytes.resize(3000, 0);
            pointers.insert(captured.bytes.as_ptr());
            slot.put(&mut captured);
            assert_eq!(slot.take(&mut taken), Taken::Frame);
        }
        assert!(pointers.len() <= 3, "{}", pointers.len());
    }

    fn judgement(frame: u64) -> Judgement {
        let arrival = Duration::ZERO;
        let observation = Observation { frame, arrival, finding: Finding::Unseen };
        Judgement { camera: 0, observation, snapshots: vec![] }
    }

    #[test]
    fn an_observation_comes_back_judged_and_a_judge_that_is_gone_keeps_nobody() {
        let mail = Arc::new(JudgeMail::default());
        let judge = thread::spawn({
            let mail = mail.clone();
            move || {
                while mail.observation.is_empty() {
                    mail.bell.wait(None);
                }
                let mut judgement = mail.observation().unwrap();
                judgement.observation.frame += 1;
                mail.answer(judgement);
                mail.leave();
            }
        });
        assert_eq!(mail.judge(judgement(7)).map(|judged| judged.observation.frame), Some(8));
        judge.join().unwrap();
        assert!(mail.judge(judgement(9)).is_none());
        let switcher = Switcher::new(mail, Keeper::default());
        assert_eq!(switcher.switch(&Switch::DryRun(true)), Err(SwitchError::Busy));
    }
}
