//! Which box of a frame shows the same thing as which box of the frames before.
//!
//! After `ByteTrack` (Zhang et al. 2022, "`ByteTrack`: Multi-Object Tracking by Associating Every Detection
//! Box"): each thing moves on at a constant velocity, by a Kalman filter of its middle and sides; sure boxes
//! are given to things first, by how much they overlap, and what is left over then gets the boxes of which
//! the network is less sure, which begin nothing new. In place of the best assignment of all pairs at once,
//! the pair that overlaps most goes first. Pure, like the judge: time is passed in, and nothing is allocated
//! once as many boxes have been seen.

use std::time::Duration;

use super::seen::SeenBox;

/// Most things that are followed at the same time.
const MOST: usize = 256;

/// The least overlap (intersection over union) of a sure box with where its thing should be, and of one
/// that is not sure: the values of the paper.
const LOOSE: f32 = 0.2;
const STRICT: f32 = 0.5;

/// Frames per second for which the noises below are given.
const RATE: f32 = 30.0;

/// Standard deviations as shares of a thing's height: of a measured place, of a place that moves on by one
/// frame, and of a velocity per frame. Those of `DeepSORT`, which the paper takes over.
const MEASURED: f32 = 1.0 / 20.0;
const PLACE: f32 = 1.0 / 20.0;
const VELOCITY: f32 = 1.0 / 160.0;

/// How things are followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tracking {
    /// The score that a box must have to begin a track.
    pub(crate) score: f32,
    /// In so many frames, one after another, a thing must be seen before it has a number; at least 1.
    pub(crate) hits: u32,
    /// How long a thing may be out of sight and still be the same.
    pub(crate) lost: Duration,
}

impl Default for Tracking {
    fn default() -> Self {
        Self { score: 0.5, hits: 3, lost: Duration::from_secs(1) }
    }
}

/// One of the numbers that make up a box, with its velocity and the variances of both (place, both together,
/// velocity): the Kalman filter of the paper, whose noises leave these numbers independent of each other.
#[derive(Debug, Clone, Copy)]
struct Motion {
    place: f32,
    velocity: f32,
    variances: [f32; 3],
}

impl Motion {
    /// As it is first measured, of something `height` high; per second.
    fn new(place: f32, height: f32) -> Self {
        let (at, velocity) = (2.0 * PLACE * height, 10.0 * VELOCITY * height * RATE);
        Self { place, velocity: 0.0, variances: [at * at, 0.0, velocity * velocity] }
    }

    fn predict(&mut self, seconds: f32, height: f32) {
        let [place, both, velocity] = self.variances;
        let (at, change) = (PLACE * height, VELOCITY * height * RATE);
        self.place += self.velocity * seconds;
        let frames = seconds * RATE;
        self.variances = [
            place + seconds * (2.0 * both + seconds * velocity) + at * at * frames,
            both + seconds * velocity,
            velocity + change * change * frames,
        ];
    }

    fn correct(&mut self, measured: f32, height: f32) {
        let noise = MEASURED * height;
        let [place, both, velocity] = self.variances;
        let total = place + noise * noise;
        // Nothing is known better than a float can tell.
        if total <= 0.0 {
            self.place = measured;
            return;
        }
        let gains = [place / total, both / total];
        let surprise = measured - self.place;
        self.place += gains[0] * surprise;
        self.velocity += gains[1] * surprise;
        self.variances = [place - gains[0] * place, both - gains[0] * both, velocity - gains[1] * both];
    }
}

/// Something that is followed.
#[derive(Debug, Clone)]
struct Track {
    /// `None` until it was seen often enough.
    number: Option<u32>,
    class: usize,
    /// Middle to the right and down, width and height.
    motions: [Motion; 4],
    hits: u32,
    seen: Duration,
}

impl Track {
    fn new(at: Duration, seen: &SeenBox) -> Self {
        let measured = measures(seen);
        let motions = measured.map(|place| Motion::new(place, measured[3]));
        Self { number: None, class: seen.class, motions, hits: 0, seen: at }
    }

    fn height(&self) -> f32 {
        self.motions[3].place.max(f32::EPSILON)
    }

    fn predict(&mut self, seconds: f32) {
        let height = self.height();
        self.motions.iter_mut().for_each(|motion| motion.predict(seconds, height));
    }

    fn correct(&mut self, at: Duration, seen: &SeenBox) {
        let height = self.height();
        for (motion, measured) in self.motions.iter_mut().zip(measures(seen)) {
            motion.correct(measured, height);
        }
        self.hits = self.hits.saturating_add(1);
        self.seen = at;
    }

    /// Where it should be.
    fn edges(&self) -> [f32; 4] {
        let [x, y, width, height] = self.motions.map(|motion| motion.place);
        let (width, height) = (width.max(0.0) / 2.0, height.max(0.0) / 2.0);
        [x - width, y - height, x + width, y + height]
    }
}

fn measures(seen: &SeenBox) -> [f32; 4] {
    let [left, top, right, bottom] = seen.edges;
    [f32::midpoint(left, right), f32::midpoint(top, bottom), right - left, bottom - top]
}

/// The share of what two boxes cover that both cover; 0 of boxes without an area.
fn overlap(one: [f32; 4], other: [f32; 4]) -> f32 {
    let side = |axis: usize| one[axis + 2].min(other[axis + 2]) - one[axis].max(other[axis]);
    let sides = [side(0), side(1)];
    if sides[0] <= 0.0 || sides[1] <= 0.0 {
        return 0.0;
    }
    let area = |edges: [f32; 4]| (edges[2] - edges[0]) * (edges[3] - edges[1]);
    let both = sides[0] * sides[1];
    let either = area(one) + area(other) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

/// A track and a box that may be the same thing.
#[derive(Debug, Clone, Copy)]
struct Pair {
    overlap: f32,
    track: u16,
    seen: u16,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    settings: Tracking,
    tracks: Vec<Track>,
    /// Numbers that were given.
    given: u32,
    /// When the boxes before came.
    last: Option<Duration>,
    pairs: Vec<Pair>,
    /// Boxes that may belong to a track, by their left edges.
    order: Vec<u16>,
    /// Whether each track and each box belong to one already.
    found: Vec<bool>,
    placed: Vec<bool>,
}

impl Tracker {
    pub(crate) fn new(settings: Tracking) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Goes on by other settings; what is followed already stays so.
    pub(crate) fn set(&mut self, settings: Tracking) {
        self.settings = settings;
    }

    /// Forgets everything but which numbers were given.
    pub(crate) fn reset(&mut self) {
        self.tracks.clear();
        self.last = None;
    }

    /// Says of each box which thing it shows, if that has a number. `at` is when the frame came, since the
    /// start of the service; boxes are of one frame, up to 65535.
    pub(crate) fn follow(&mut self, at: Duration, boxes: &mut [SeenBox]) {
        self.tracks.reserve(MOST.saturating_sub(self.tracks.capacity()));
        let before = self.last.replace(at).unwrap_or(at);
        let seconds = at.saturating_sub(before).as_secs_f32();
        self.tracks.retain(|track| at.saturating_sub(track.seen) <= self.settings.lost);
        self.tracks.iter_mut().for_each(|track| track.predict(seconds));
        for seen in boxes.iter_mut() {
            seen.track = None;
        }
        for (flags, count) in [(&mut self.found, self.tracks.len()), (&mut self.placed, boxes.len())] {
            flags.clear();
            flags.resize(count, false);
        }
        let sure = self.settings.score;
        self.assign(at, boxes, LOOSE, |seen| seen.score >= sure, |_| true);
        // What was out of sight before is not found again by a box that may be none.
        let in_sight = |track: &Track| track.number.is_some() && track.seen == before;
        self.assign(at, boxes, STRICT, |seen| seen.score < sure, in_sight);
        let mut found = self.found.iter();
        // What was taken for a thing must be seen again at once.
        self.tracks.retain(|track| found.next() == Some(&true) || track.number.is_some());
        for (seen, _) in
            boxes.iter_mut().zip(&self.placed).filter(|(seen, placed)| !**placed && seen.score >= sure)
        {
            if self.tracks.len() < MOST {
                let mut track = Track::new(at, seen);
                track.hits = 1;
                seen.track = number(&mut track, self.settings.hits, &mut self.given);
                self.tracks.push(track);
            }
        }
    }

    /// Gives boxes to tracks, those that overlap most first, where both may have one.
    fn assign(
        &mut self,
        at: Duration,
        boxes: &mut [SeenBox],
        least: f32,
        may_be_given: impl Fn(&SeenBox) -> bool,
        may_take: impl Fn(&Track) -> bool,
    ) {
        let Self { tracks, pairs, order, found, placed, .. } = self;
        let left = |number: u16| boxes[usize::from(number)].edges[0];
        order.clear();
        order.reserve(boxes.len());
        let free = (0..boxes.len()).filter(|&number| !placed[number] && may_be_given(&boxes[number]));
        order.extend(free.map(|number| number as u16));
        order.sort_unstable_by(|&a, &b| left(a).total_cmp(&left(b)));
        let width = |&number: &u16| boxes[usize::from(number)].edges[2] - left(number);
        let widest = order.iter().map(width).fold(0.0, f32::max);
        pairs.clear();
        // How many can overlap depends on the picture; this much is enough for any.
        pairs.reserve(MOST * boxes.len());
        for (index, track) in tracks.iter().enumerate().filter(|(index, _)| !found[*index]) {
            if !may_take(track) {
                continue;
            }
            let edges = track.edges();
            // Most boxes are beside it.
            let first = order.partition_point(|&number| left(number) < edges[0] - widest);
            for &number in order[first..].iter().take_while(|&&number| left(number) < edges[2]) {
                let seen = &boxes[usize::from(number)];
                if seen.class == track.class {
                    let overlap = overlap(edges, seen.edges);
                    if overlap >= least {
                        pairs.push(Pair { overlap, track: index as u16, seen: number });
                    }
                }
            }
        }
        // Of equals the older track and the likelier box.
        pairs.sort_unstable_by(|a, b| {
            b.overlap.total_cmp(&a.overlap).then(a.track.cmp(&b.track)).then(a.seen.cmp(&b.seen))
        });
        for pair in pairs.iter() {
            let (track, seen) = (usize::from(pair.track), usize::from(pair.seen));
            if found[track] || placed[seen] {
                continue;
            }
            (found[track], placed[seen]) = (true, true);
            let (track, seen) = (&mut tracks[track], &mut boxes[seen]);
            track.correct(at, seen);
            seen.track = number(track, self.settings.hits, &mut self.given);
        }
    }
}

/// The number of a track, which it gets when it has been seen often enough. None is given twice.
fn number(track: &mut Track, hits: u32, given: &mut u32) -> Option<u32> {
    if track.number.is_none() && track.hits >= hits {
        *given = given.wrapping_add(1);
        track.number = Some(*given);
    }
    track.number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn seen(class: usize, score: f32, x: f32, y: f32) -> SeenBox {
        SeenBox { class, score, edges: [x - 0.05, y - 0.1, x + 0.05, y + 0.1], track: None }
    }

    /// The tracks of boxes at these middles.
    fn follow(tracker: &mut Tracker, at: u64, boxes: &[SeenBox]) -> Vec<Option<u32>> {
        let mut boxes = boxes.to_vec();
        tracker.follow(ms(at), &mut boxes);
        boxes.iter().map(|seen| seen.track).collect()
    }

    #[test]
    fn a_thing_has_a_number_once_it_was_seen_often_enough_and_keeps_it() {
        let mut tracker = Tracker::new(Tracking::default());
        let mut numbers = vec![];
        for frame in 0..6 {
            numbers.extend(follow(&mut tracker, frame * 40, &[seen(0, 0.9, 0.1 + 0.02 * frame as f32, 0.5)]));
        }
        assert_eq!(numbers, [None, None, Some(1), Some(1), Some(1), Some(1)]);
        // Another class is another thing, wherever it is; so is what is elsewhere.
        let others = [seen(1, 0.9, 0.22, 0.5), seen(0, 0.9, 0.8, 0.5), seen(0, 0.9, 0.22, 0.5)];
        assert_eq!(follow(&mut tracker, 240, &others), [None, None, Some(1)]);
        follow(&mut tracker, 280, &others);
        let mut numbers = follow(&mut tracker, 320, &others);
        assert_eq!(numbers.pop(), Some(Some(1)));
        numbers.sort_unstable();
        assert_eq!(numbers, [Some(2), Some(3)]);
    }

    #[test]
    fn what_is_missed_before_it_has_a_number_was_nothing() {
        let mut tracker = Tracker::new(Tracking { hits: 2, ..Tracking::default() });
        let thing = [seen(0, 0.9, 0.5, 0.5)];
        assert_eq!(follow(&mut tracker, 0, &thing), [None]);
        follow(&mut tracker, 40, &[]);
        assert_eq!(follow(&mut tracker, 80, &thing), [None]);
        assert_eq!(follow(&mut tracker, 120, &thing), [Some(1)]);
        let mut at_once = Tracker::new(Tracking { hits: 1, ..Tracking::default() });
        assert_eq!(follow(&mut at_once, 0, &thing), [Some(1)]);
    }

    #[test]
    fn a_thing_that_hides_is_the_same_where_it_should_be_by_then_and_for_as_long_as_it_may() {
        // A tenth of the picture in 100 ms, out of sight for 300 ms, which is three times its width.
        let at = |time: u64| [seen(0, 0.9, 0.1 + 0.001 * time as f32, 0.5)];
        let settings = Tracking { lost: ms(400), ..Tracking::default() };
        for (back, expected) in [(600, Some(1)), (900, None)] {
            let mut tracker = Tracker::new(settings);
            for time in (0..=300).step_by(25) {
                follow(&mut tracker, time, &at(time));
            }
            for time in (325..back).step_by(25) {
                follow(&mut tracker, time, &[]);
            }
            assert_eq!(follow(&mut tracker, back, &at(back)), [expected], "{back}");
        }
    }

    #[test]
    fn a_box_that_is_not_sure_goes_on_with_a_thing_and_begins_none() {
        let mut tracker = Tracker::new(Tracking { hits: 1, ..Tracking::default() });
        assert_eq!(follow(&mut tracker, 0, &[seen(0, 0.3, 0.2, 0.5)]), [None]);
        assert_eq!(follow(&mut tracker, 40, &[seen(0, 0.5, 0.2, 0.5)]), [Some(1)]);
        // The sure one goes first, though the other one overlaps more.
        let both = [seen(0, 0.6, 0.23, 0.5), seen(0, 0.4, 0.2, 0.5)];
        assert_eq!(follow(&mut tracker, 80, &both), [Some(1), None]);
        assert_eq!(follow(&mut tracker, 120, &[seen(0, 0.2, 0.23, 0.5)]), [Some(1)]);
        follow(&mut tracker, 160, &[]);
        assert_eq!(follow(&mut tracker, 200, &[seen(0, 0.2, 0.23, 0.5)]), [None], "it was out of sight");
        assert_eq!(follow(&mut tracker, 240, &[seen(0, 0.7, 0.23, 0.5)]), [Some(1)]);
    }

    #[test]
    fn things_that_pass_each_other_keep_their_numbers() {
        let mut tracker = Tracker::new(Tracking { hits: 1, ..Tracking::default() });
        let mut numbers = vec![];
        // On two lines that lie so close that the boxes overlap by half.
        for frame in 0..=40 {
            let x = 0.1 + 0.02 * frame as f32;
            numbers.push(follow(
                &mut tracker,
                frame * 33,
                &[seen(0, 0.9, x, 0.5), seen(0, 0.9, 1.0 - x, 0.55)],
            ));
        }
        assert!(numbers.iter().all(|pair| *pair == [Some(1), Some(2)]), "{numbers:?}");
    }

    #[test]
    fn no_number_comes_twice_and_settings_may_change() {
        let mut tracker = Tracker::new(Tracking { hits: 1, ..Tracking::default() });
        assert_eq!(follow(&mut tracker, 0, &[seen(0, 0.9, 0.5, 0.5)]), [Some(1)]);
        tracker.reset();
        assert_eq!(follow(&mut tracker, 10, &[seen(0, 0.9, 0.5, 0.5)]), [Some(2)]);
        tracker.set(Tracking { hits: 2, ..Tracking::default() });
        assert_eq!(
            follow(&mut tracker, 20, &[seen(0, 0.9, 0.5, 0.5), seen(0, 0.9, 0.1, 0.1)]),
            [Some(2), None]
        );
    }

    #[test]
    fn more_boxes_than_can_be_followed_are_still_boxes() {
        let mut tracker = Tracker::new(Tracking { hits: 1, ..Tracking::default() });
        let grid = |index: usize| {
            let (x, y) = ((index % 32) as f32 / 32.0, (index / 32) as f32 / 32.0);
            SeenBox { edges: [x, y, x + 0.03, y + 0.03], ..seen(0, 0.9, 0.0, 0.0) }
        };
        let boxes: Vec<SeenBox> = (0..1000).map(grid).collect();
        let numbers = follow(&mut tracker, 0, &boxes);
        assert_eq!(numbers.iter().flatten().count(), MOST);
        assert_eq!(follow(&mut tracker, 40, &boxes), numbers);
    }

    #[test]
    fn a_hundred_things_are_followed_without_allocating_once_warm() {
        let mut tracker = Tracker::new(Tracking::default());
        let mut boxes: Vec<SeenBox> = (0..100)
            .map(|index| {
                seen(
                    index % 3,
                    0.4 + 0.005 * index as f32,
                    (index % 10) as f32 / 10.0,
                    (index / 10) as f32 / 10.0,
                )
            })
            .collect();
        let mut frames = |from: u64| {
            for frame in from..from + 20 {
                for (index, seen) in boxes.iter_mut().enumerate() {
                    let step = if index % 2 == 0 { 0.001 } else { -0.001 };
                    seen.edges[0] += step;
                    seen.edges[2] += step;
                }
                tracker.follow(ms(frame * 33), &mut boxes);
            }
        };
        frames(0);
        let measured = allocation_counter::measure(|| frames(20));
        assert_eq!(measured.count_total, 0);
        assert!(boxes.iter().filter(|seen| seen.track.is_some()).count() > 50);
    }

    proptest! {
        /// Boxes go to the tracks that a search of all pairs gives them to.
        #[test]
        fn no_pair_is_passed_over(
            frames in prop::array::uniform2(prop::collection::vec(
                (0..2usize, prop::array::uniform2(0.0..0.8f32), prop::array::uniform2(0.0..0.3f32)), 0..30
            ))
        ) {
            let [first, second] = frames.map(|boxes| -> Vec<SeenBox> {
                let edges = |[x, y]: [f32; 2], [width, height]: [f32; 2]| [x, y, x + width, y + height];
                let seen = |(class, at, sides)| SeenBox { edges: edges(at, sides), ..seen(class, 0.9, 0.0, 0.0) };
                boxes.into_iter().map(seen).collect()
            });
            let mut tracker = Tracker::new(Tracking { hits: 1, ..Tracking::default() });
            follow(&mut tracker, 0, &first);
            let mut pairs = vec![];
            for (index, track) in tracker.tracks.iter().enumerate() {
                let mut track = track.clone();
                track.predict(0.033);
                for (number, seen) in second.iter().enumerate().filter(|(_, seen)| seen.class == track.class) {
                    pairs.push((overlap(track.edges(), seen.edges), index, number));
                }
            }
            pairs.retain(|pair| pair.0 >= LOOSE);
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
            let mut expected = vec![None; second.len()];
            for (_, index, number) in pairs {
                let track = tracker.tracks[index].number;
                if expected[number].is_none() && !expected.contains(&track) {
                    expected[number] = track;
                }
            }
            let given = tracker.given;
            let found = follow(&mut tracker, 33, &second);
            let found: Vec<Option<u32>> =
                found.into_iter().map(|track| track.filter(|&number| number <= given)).collect();
            prop_assert_eq!(found, expected);
        }

        /// Whatever comes: no number is at two boxes of a frame, and a thing keeps its class.
        #[test]
        fn numbers_are_of_one_thing(
            frames in prop::collection::vec(
                (0..200u64, prop::collection::vec((0..3usize, 0.0..1.0f32, prop::array::uniform4(0.0..1.0f32)), 0..12)), 1..40
            )
        ) {
            let mut tracker = Tracker::new(Tracking { hits: 2, ..Tracking::default() });
            let (mut now, mut classes) = (ms(0), std::collections::HashMap::new());
            for (pause, boxes) in frames {
                now += ms(pause);
                let mut boxes: Vec<SeenBox> = boxes
                    .into_iter()
                    .map(|(class, score, edges)| SeenBox { class, score, edges, track: None })
                    .collect();
                tracker.follow(now, &mut boxes);
                let mut numbers: Vec<u32> = boxes.iter().filter_map(|seen| seen.track).collect();
                for seen in boxes.iter().filter(|seen| seen.track.is_some()) {
                    prop_assert_eq!(*classes.entry(seen.track).or_insert(seen.class), seen.class);
                }
                let count = numbers.len();
                numbers.sort_unstable();
                numbers.dedup();
                prop_assert_eq!(numbers.len(), count);
            }
        }
    }
}
