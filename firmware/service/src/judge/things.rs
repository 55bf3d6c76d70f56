//! What a rule knows of the things that are followed: how long they stay, what they cross, and how many
//! there were.

use std::time::Duration;

use super::boxes::{BoxCondition, Happening};
use super::crossing::Anchor;
use super::evidence::{Evidence, Place};
use super::seen::SeenBox;

/// Most things that a rule remembers at the same time.
const MOST: usize = 256;

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Thing {
    track: u32,
    seen: Duration,
    /// The best score that it has had, `0..=1`.
    best: f32,
    /// Since when it stays where the rule looks, and when it was last there.
    stay: Option<(Duration, Duration)>,
    /// Where it was at the rule's line.
    anchor: Option<Anchor>,
    /// Whether it was counted.
    counted: bool,
    /// Whether it crossed the line in the frame that was looked at last.
    crossed: bool,
}

impl Thing {
    fn new(track: u32, now: Duration) -> Self {
        Self { track, seen: now, best: 0.0, stay: None, anchor: None, counted: false, crossed: false }
    }

    /// How long it has stayed, if it is there now.
    fn stayed(&self, now: Duration) -> Option<Duration> {
        self.stay.filter(|(_, last)| *last == now).map(|(since, _)| now.saturating_sub(since))
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Things {
    things: Vec<Thing>,
    /// For each class of the rule, in their order.
    counts: Vec<u64>,
}

impl Things {
    /// Forgets the things, not how many there were.
    pub(super) fn reset(&mut self) {
        self.things.clear();
    }

    /// How many things of each class of the rule were counted; nothing before boxes were looked at.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Takes the boxes of a frame, the likeliest first, and gives what speaks for a rule of `classes`, whose
    /// score is to reach `threshold`.
    pub(super) fn look(
        &mut self,
        now: Duration,
        classes: &[usize],
        condition: &BoxCondition,
        threshold: f32,
        boxes: &[SeenBox],
    ) -> Evidence {
        self.things.reserve(MOST.saturating_sub(self.things.capacity()));
        self.counts.resize(classes.len(), 0);
        self.things.retain(|thing| now.saturating_sub(thing.seen) <= condition.patience);
        self.things.iter_mut().for_each(|thing| thing.crossed = false);
        for seen in boxes {
            let Some(class) = classes.iter().position(|class| *class == seen.class) else { continue };
            let Some(thing) = seen.track.and_then(|track| self.thing(track, now)) else { continue };
            thing.seen = now;
            thing.best = thing.best.max(seen.score);
            let counts = match condition.happening {
                Happening::Crosses(line) => {
                    let passes = line.passes(&mut thing.anchor, seen.middle(), seen.shorter_side());
                    thing.crossed = passes && condition.admits(seen);
                    thing.crossed && thing.best >= threshold
                }
                Happening::Stays(least) => {
                    if condition.admits(seen) {
                        // Somebody at the edge of a zone is in and out of it.
                        let goes_on =
                            |(_, last): &(_, Duration)| now.saturating_sub(*last) <= condition.patience;
                        let since = thing.stay.filter(goes_on).map_or(now, |(since, _)| since);
                        thing.stay = Some((since, now));
                    }
                    let is_new = !thing.counted && thing.best >= threshold;
                    let counts = is_new && thing.stayed(now).is_some_and(|stayed| stayed >= least);
                    thing.counted |= counts;
                    counts
                }
            };
            self.counts[class] += u64::from(counts);
        }
        self.evidence(now, classes, condition, boxes)
    }

    /// What is known of a track; `None` where too much is known already.
    fn thing(&mut self, track: u32, now: Duration) -> Option<&mut Thing> {
        let known = self.things.iter().position(|thing| thing.track == track);
        if known.is_none() && self.things.len() < MOST {
            self.things.push(Thing::new(track, now));
        }
        let index = known.unwrap_or(self.things.len().saturating_sub(1));
        self.things.get_mut(index).filter(|thing| thing.track == track)
    }

    fn evidence(
        &self,
        now: Duration,
        classes: &[usize],
        condition: &BoxCondition,
        boxes: &[SeenBox],
    ) -> Evidence {
        let known = |seen: &SeenBox| self.things.iter().find(|thing| Some(thing.track) == seen.track);
        match condition.happening {
            Happening::Stays(Duration::ZERO) => condition.evidence(classes, boxes, |_| true),
            Happening::Stays(least) => condition.evidence(classes, boxes, |seen| {
                known(seen).and_then(|thing| thing.stayed(now)).is_some_and(|stayed| stayed >= least)
            }),
            Happening::Crosses(_) => {
                let crossed = boxes.iter().filter(|seen| classes.contains(&seen.class));
                let crossed =
                    crossed.filter_map(|seen| Some((seen, known(seen).filter(|thing| thing.crossed)?.best)));
                // Of equals the likelier box, which is first.
                let surest = crossed.reduce(|best, other| if other.1 > best.1 { other } else { best });
                Evidence {
                    score: surest.map_or(0.0, |(_, best)| best),
                    class: surest.map_or(classes.first().copied().unwrap_or(0), |(seen, _)| seen.class),
                    place: surest.map(|(seen, _)| Place::Box(seen.edges)),
                    track: surest.and_then(|(seen, _)| seen.track),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::crossing::{Crossing, Direction};
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn seen(track: u32, score: f32, x: f32, y: f32) -> SeenBox {
        SeenBox { class: 4, score, edges: [x - 0.1, y - 0.1, x + 0.1, y + 0.1], track: Some(track) }
    }

    const LOWER: [[f32; 2]; 4] = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]];

    /// Score and count after each frame.
    fn play(condition: &BoxCondition, frames: &[(u64, &[SeenBox])]) -> Vec<(f32, u64)> {
        let mut things = Things::default();
        let look = |(at, boxes): &(u64, &[SeenBox])| {
            let evidence = things.look(ms(*at), &[2, 4], condition, 0.5, boxes);
            (evidence.score, things.counts()[1])
        };
        frames.iter().map(look).collect()
    }

    #[test]
    fn a_thing_counts_once_it_has_stayed_and_is_counted_once() {
        let condition = BoxCondition {
            zone: LOWER.to_vec(),
            happening: Happening::Stays(ms(1000)),
            patience: ms(400),
            ..BoxCondition::default()
        };
        let (inside, outside) = ([seen(1, 0.8, 0.5, 0.7)], [seen(1, 0.8, 0.5, 0.3)]);
        let table: [(u64, &[SeenBox], f32, u64); 9] = [
            (0, &inside, 0.0, 0),
            (300, &inside, 0.0, 0),
            (500, &outside, 0.0, 0),
            // It was away for no longer than it may be out of sight.
            (600, &inside, 0.0, 0),
            (900, &[], 0.0, 0),
            (1000, &inside, 0.8, 1),
            (1300, &inside, 0.8, 1),
            (1700, &outside, 0.0, 1),
            (1900, &inside, 0.0, 1),
        ];
        let frames: Vec<_> = table.iter().map(|(at, boxes, ..)| (*at, *boxes)).collect();
        let expected: Vec<_> = table.iter().map(|(.., score, count)| (*score, *count)).collect();
        assert_eq!(play(&condition, &frames), expected);
    }

    #[test]
    fn without_a_time_each_thing_in_the_zone_is_counted_and_boxes_without_a_track_still_count() {
        let condition = BoxCondition { zone: LOWER.to_vec(), ..BoxCondition::default() };
        let nobody = SeenBox { track: None, ..seen(1, 0.9, 0.2, 0.7) };
        let frames: [(u64, &[SeenBox]); 5] = [
            (0, &[nobody]),
            (40, &[seen(1, 0.4, 0.2, 0.7)]),
            (80, &[seen(1, 0.6, 0.2, 0.7), seen(2, 0.5, 0.7, 0.7)]),
            (120, &[seen(1, 0.7, 0.2, 0.3)]),
            (160, &[seen(1, 0.7, 0.2, 0.7)]),
        ];
        assert_eq!(play(&condition, &frames), [(0.9, 0), (0.4, 0), (0.6, 2), (0.0, 2), (0.7, 2)]);
    }

    #[test]
    fn a_crossing_is_as_sure_as_its_thing_ever_was() {
        let line = Crossing { ends: [[0.0, 0.5], [1.0, 0.5]], direction: Some(Direction::Down) };
        let condition = BoxCondition { happening: Happening::Crosses(line), ..BoxCondition::default() };
        let frames: [(u64, &[SeenBox]); 5] = [
            (0, &[seen(1, 0.9, 0.2, 0.3), seen(2, 0.4, 0.7, 0.3)]),
            (40, &[seen(1, 0.3, 0.2, 0.6), seen(2, 0.4, 0.7, 0.3)]),
            (80, &[seen(1, 0.9, 0.2, 0.3), seen(2, 0.4, 0.7, 0.6)]),
            (120, &[seen(1, 0.9, 0.2, 0.6)]),
            (160, &[]),
        ];
        assert_eq!(play(&condition, &frames), [(0.0, 0), (0.9, 1), (0.4, 1), (0.9, 2), (0.0, 2)]);
        // What is looked for in a zone crosses there alone.
        let zone = BoxCondition { zone: vec![[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]], ..condition };
        assert_eq!(play(&zone, &frames)[1], (0.0, 0));
        let mut things = Things::default();
        for (at, boxes) in frames {
            let evidence = things.look(ms(at), &[2, 4], &zone, 0.1, boxes);
            assert_eq!(evidence.track, (at == 80).then_some(2), "{at}");
        }
    }

    #[test]
    fn things_are_forgotten_and_their_number_stays_bounded() {
        let mut things = Things::default();
        let condition = BoxCondition::default();
        for track in 0..10_000 {
            let now = ms(u64::from(track));
            things.look(now, &[4], &condition, 0.5, &[seen(track, 0.9, 0.5, 0.5)]);
            assert!(things.things.len() <= MOST);
        }
        things.look(ms(20_000), &[4], &condition, 0.5, &[]);
        assert!(things.things.is_empty());
        let counted = things.counts()[0];
        assert!(counted >= MOST as u64);
        things.reset();
        assert_eq!(things.counts(), [counted]);
    }
}
