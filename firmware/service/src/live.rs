//! What those who watch are sent: the scores of each frame, and events.
//!
//! Nobody watches: a frame costs the look at a number. Somebody watches: what the frame showed is
//! put into a short list that is read for each viewer when there is room for more on the way to it,
//! so a slow viewer holds up nothing and takes no memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::judge::{Observation, SeenBox, SeenPoint, Standing};
use crate::sync::lock;
use crate::telemetry::Telemetry;

/// Viewers at the same time.
pub(crate) const VIEWERS: u64 = 8;

/// Likeliest classes that are shown.
pub(crate) const TOP: usize = 5;

/// Likeliest boxes that are shown.
pub(crate) const BOXES: usize = 50;

/// Points that are shown: all of 20 people with the 18 points that such networks know.
pub(crate) const POINTS: usize = 400;

/// Frames that are kept for viewers who have not read them yet.
const SAMPLES: usize = 64;

/// Events that are kept, for new viewers too.
const EVENTS: usize = 64;

/// Classes with their probabilities, the likeliest first.
pub(crate) type Top = heapless::Vec<(usize, f32), TOP>;

/// The likeliest classes; of equals the first.
pub(crate) fn top(probabilities: &[f32]) -> Top {
    let mut best = Top::new();
    for (class, &probability) in probabilities.iter().enumerate() {
        let place = best.iter().position(|(_, other)| probability > *other).unwrap_or(best.len());
        if best.is_full() && place < TOP {
            best.pop();
        }
        // There is room, unless all of them are likelier.
        let _ = best.insert(place, (class, probability));
    }
    best
}

/// What a frame showed.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// The number of its camera.
    pub(crate) camera: usize,
    /// Since the start of the service.
    pub(crate) at: Duration,
    /// The frame's number.
    pub(crate) frame: u64,
    pub(crate) top: Top,
    /// The boxes that were found, the likeliest first.
    pub(crate) boxes: Vec<SeenBox>,
    /// Where each class is, of a network that finds points.
    pub(crate) points: Vec<SeenPoint>,
    /// How each rule stood after it.
    pub(crate) rules: Vec<Standing>,
}

/// The last of many things, counted.
struct Last<T> {
    count: u64,
    kept: VecDeque<T>,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self { count: 0, kept: VecDeque::new() }
    }
}

impl<T: Clone> Last<T> {
    /// What came after the first `seen`, which are all afterwards; and how many of it are not
    /// kept any more.
    fn since(&self, seen: &mut u64) -> (Vec<T>, u64) {
        let new = (self.count - *seen) as usize;
        *seen = self.count;
        let missed = new.saturating_sub(self.kept.len());
        (self.kept.iter().skip(self.kept.len() - (new - missed)).cloned().collect(), missed as u64)
    }
}

/// Between the loop, the outputs and those who watch.
#[derive(Default)]
pub(crate) struct Live {
    /// Its gauge of viewers is how many watch.
    telemetry: Arc<Telemetry>,
    samples: Mutex<Last<Sample>>,
    events: Mutex<Last<Arc<str>>>,
}

impl Live {
    pub(crate) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, ..Self::default() }
    }

    /// Takes what a frame showed if somebody watches and it was looked at. Allocates nothing once the list is full.
    pub(crate) fn frame(
        &self,
        camera: usize,
        at: Duration,
        observation: &Observation,
        rules: impl Iterator<Item = Standing>,
    ) {
        let Observation { frame, finding, .. } = observation;
        let Some(scores) = finding.scores().filter(|_| self.telemetry.viewers.is_set()) else { return };
        let top = top(scores);
        let mut samples = lock(&self.samples);
        let oldest = if samples.kept.len() < SAMPLES { None } else { samples.kept.pop_front() };
        let (mut standings, mut boxes, mut points) =
            oldest.map_or_else(Default::default, |sample| (sample.rules, sample.boxes, sample.points));
        standings.clear();
        standings.extend(rules);
        boxes.clear();
        boxes.extend(finding.boxes().iter().take(BOXES));
        points.clear();
        points.extend(finding.points().iter().take(POINTS));
        samples.count += 1;
        samples.kept.push_back(Sample { camera, at, frame: *frame, top, boxes, points, rules: standings });
    }

    /// Takes an event's line.
    pub(crate) fn event(&self, line: Arc<str>) {
        let mut events = lock(&self.events);
        if events.kept.len() == EVENTS {
            events.kept.pop_front();
        }
        events.count += 1;
        events.kept.push_back(line);
    }

    /// Begins to watch; `None` if there are [`VIEWERS`] already. The first events are those
    /// that are kept, the first frame is the next.
    pub(crate) fn watch(self: &Arc<Self>) -> Option<Viewer> {
        if !self.telemetry.viewers.raise_below(VIEWERS) {
            return None;
        }
        let samples_seen = lock(&self.samples).count;
        let events_seen = {
            let events = lock(&self.events);
            events.count - events.kept.len() as u64
        };
        Some(Viewer { live: self.clone(), samples_seen, events_seen })
    }
}

/// Somebody who watches until this is dropped.
pub(crate) struct Viewer {
    live: Arc<Live>,
    samples_seen: u64,
    events_seen: u64,
}

impl Viewer {
    /// The frames since the last call, as far as they are kept.
    pub(crate) fn samples(&mut self) -> Vec<Sample> {
        lock(&self.live.samples).since(&mut self.samples_seen).0
    }

    /// The events since the last call, and how many more there were.
    pub(crate) fn events(&mut self) -> (Vec<Arc<str>>, u64) {
        lock(&self.live.events).since(&mut self.events_seen)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if self.live.telemetry.viewers.lower() == 0 {
            lock(&self.live.samples).kept = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::Finding;

    fn standing(score: f32) -> Standing {
        Standing { armed: true, active: false, score: Some(score), hits: 0, ready_at: Duration::ZERO }
    }

    fn observation(frame: u64) -> Observation {
        let point = SeenPoint { class: 1, thing: 0, score: 0.7, place: [0.5, 0.25] };
        let finding = Finding::Points(vec![0.1, 0.7, 0.2], vec![point; 3]);
        Observation { frame, arrival: Duration::from_millis(frame), finding }
    }

    fn pass(live: &Live, frame: u64) {
        let observation = observation(frame);
        live.frame(0, observation.arrival, &observation, [standing(0.7); 3].into_iter());
    }

    #[test]
    fn each_viewer_gets_every_frame_once_from_when_it_came() {
        let live = Arc::new(Live::default());
        pass(&live, 1);
        let mut first = live.watch().unwrap();
        (2..5).for_each(|frame| pass(&live, frame));
        let mut second = live.watch().unwrap();
        (5..7).for_each(|frame| pass(&live, frame));
        let frames = |viewer: &mut Viewer| -> Vec<u64> {
            viewer.samples().iter().map(|sample| sample.frame).collect()
        };
        assert_eq!(frames(&mut first), [2, 3, 4, 5, 6]);
        assert_eq!(frames(&mut second), [5, 6]);
        assert!(frames(&mut first).is_empty());
        // One that reads too late has the last ones.
        (7..107).for_each(|frame| pass(&live, frame));
        assert_eq!(frames(&mut second), (43..107).collect::<Vec<_>>());
        drop((first, second));
        assert!(lock(&live.samples).kept.is_empty());
    }

    #[test]
    fn events_are_kept_for_those_who_come_and_missed_ones_are_counted() {
        let live = Arc::new(Live::default());
        let event = |number: usize| live.event(number.to_string().into());
        (0..3).for_each(event);
        let mut viewer = live.watch().unwrap();
        let (events, missed) = viewer.events();
        assert_eq!((events.len(), missed), (3, 0));
        (0..EVENTS + 10).for_each(event);
        let (events, missed) = viewer.events();
        assert_eq!((events.len(), missed, &*events[0]), (EVENTS, 10, "10"));
    }

    #[test]
    fn viewers_are_limited() {
        let live = Arc::new(Live::default());
        let mut viewers: Vec<_> = (0..VIEWERS).map(|_| live.watch().unwrap()).collect();
        assert!(live.watch().is_none());
        viewers.pop();
        assert!(live.watch().is_some());
    }

    #[test]
    fn frames_allocate_nothing_without_viewers_and_with_them_once_warm() {
        let live = Arc::new(Live::default());
        let observation = observation(1);
        let pass = |_| live.frame(0, observation.arrival, &observation, [standing(0.7); 3].into_iter());
        let frames = || allocation_counter::measure(|| (0..100).for_each(pass));
        assert_eq!(frames().count_total, 0);
        let viewer = live.watch().unwrap();
        assert!(frames().count_total > 0);
        assert_eq!(frames().count_total, 0);
        drop(viewer);
    }

    proptest! {
        #[test]
        fn the_likeliest_are_those_of_a_sort(values in prop::collection::vec(0..6u8, 0..20)) {
            let probabilities: Vec<f32> = values.iter().map(|value| f32::from(*value) / 8.0).collect();
            let mut sorted: Vec<(usize, f32)> = probabilities.iter().copied().enumerate().collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            sorted.truncate(TOP);
            prop_assert_eq!(top(&probabilities).to_vec(), sorted);
        }
    }
}
