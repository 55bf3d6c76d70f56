//! Boxes as rules see them: which of them count for a rule, and how much they speak for it.

use std::time::Duration;

use super::crossing::Crossing;
use super::evidence::{Evidence, Place};
use super::seen::SeenBox;
use super::tracker::Tracking;

/// Most corners of a zone.
pub(crate) const MOST_CORNERS: usize = 64;

/// What must happen to a thing for it to count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Happening {
    /// It is there, and has been for so long; boxes that show nothing that is followed count where that
    /// is no time at all.
    Stays(Duration),
    /// It crosses a line.
    Crosses(Crossing),
}

/// Which boxes count for a rule, and how many of them there must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BoxCondition {
    /// Corners `[x, y]` of the part of the picture that a box's middle must lie in, as shares of its
    /// width and height; none where it may lie anywhere.
    pub(crate) zone: Vec<[f32; 2]>,
    /// The least share of the picture that a box must cover.
    pub(crate) least_size: f32,
    /// How many there must be, at least 1.
    pub(crate) count: usize,
    pub(crate) happening: Happening,
    /// How long a thing may be out of sight or beside the zone and still be the same there.
    pub(crate) patience: Duration,
}

impl Default for BoxCondition {
    /// One box of any size, anywhere.
    fn default() -> Self {
        Self {
            zone: vec![],
            least_size: 0.0,
            count: 1,
            happening: Happening::Stays(Duration::ZERO),
            patience: Tracking::default().lost,
        }
    }
}

impl BoxCondition {
    /// Whether it asks for what boxes alone can tell.
    pub(crate) fn is_of_boxes(&self) -> bool {
        let any = Self::default();
        (self.least_size, self.happening) != (any.least_size, any.happening)
    }

    /// Whether it asks for several things.
    pub(crate) fn is_of_several(&self) -> bool {
        self.count > 1
    }

    /// Whether a box is as large and where it must be.
    pub(super) fn admits(&self, seen: &SeenBox) -> bool {
        seen.area() >= self.least_size && (self.zone.is_empty() || contains(&self.zone, seen.middle()))
    }

    /// What speaks for a rule of `classes`: the score of the last of as many boxes as there must be, so
    /// that it reaches a threshold where so many boxes do; 0 if there are fewer. `boxes` has the
    /// likeliest first; those count that `may`.
    pub(super) fn evidence(
        &self,
        classes: &[usize],
        boxes: &[SeenBox],
        may: impl Fn(&SeenBox) -> bool,
    ) -> Evidence {
        let mut counted =
            boxes.iter().filter(|seen| classes.contains(&seen.class) && self.admits(seen) && may(seen));
        let first = counted.next();
        let last = if self.count <= 1 { first } else { counted.nth(self.count - 2) };
        Evidence {
            score: last.map_or(0.0, |seen| seen.score),
            class: first.map_or(classes.first().copied().unwrap_or(0), |seen| seen.class),
            place: first.map(|seen| Place::Box(seen.edges)),
            track: first.and_then(|seen| seen.track),
        }
    }
}

/// Whether a point lies within a polygon, by the number of its sides to the left of the point. A
/// point on a side belongs to one of two polygons that share it.
pub(super) fn contains(corners: &[[f32; 2]], [x, y]: [f32; 2]) -> bool {
    let mut within = false;
    let mut before = corners.last().copied().unwrap_or_default();
    for &corner in corners {
        let ([x0, y0], [x1, y1]) = (before, corner);
        if (y0 > y) != (y1 > y) && x < (x1 - x0) * (y - y0) / (y1 - y0) + x0 {
            within = !within;
        }
        before = corner;
    }
    within
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(class: usize, score: f32, left: f32, top: f32) -> SeenBox {
        SeenBox { class, score, edges: [left, top, left + 0.25, top + 0.5], track: None }
    }

    #[test]
    fn a_rule_is_as_sure_as_the_last_box_that_it_needs() {
        let boxes = [seen(1, 0.9, 0.0, 0.0), seen(0, 0.8, 0.5, 0.5), seen(1, 0.7, 0.5, 0.0)];
        let evidence = |classes: &[usize], count: usize| {
            let Evidence { score, class, place, .. } =
                BoxCondition { count, ..BoxCondition::default() }.evidence(classes, &boxes, |_| true);
            (score, class, place.map(|place| place.surroundings()[0]))
        };
        assert_eq!(evidence(&[1], 1), (0.9, 1, Some(0.0)));
        assert_eq!(evidence(&[1], 2), (0.7, 1, Some(0.0)));
        assert_eq!(evidence(&[1], 3), (0.0, 1, Some(0.0)));
        assert_eq!(evidence(&[0, 1], 3), (0.7, 1, Some(0.0)));
        assert_eq!(evidence(&[0], 1), (0.8, 0, Some(0.5)));
        assert_eq!(evidence(&[7], 1), (0.0, 7, None));
    }

    #[test]
    fn only_boxes_of_the_size_and_in_the_zone_count() {
        // Middles at 0.125, 0.25 and at 0.625, 0.75; an eighth of the picture each.
        let boxes = [seen(0, 0.9, 0.0, 0.0), seen(0, 0.8, 0.5, 0.5)];
        let score = |zone: &[[f32; 2]], least_size: f32| {
            BoxCondition { zone: zone.to_vec(), least_size, ..BoxCondition::default() }
                .evidence(&[0], &boxes, |_| true)
                .score
        };
        assert_eq!(score(&[], 0.125), 0.9);
        assert_eq!(score(&[], 0.126), 0.0);
        let right = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]];
        assert_eq!(score(&right, 0.0), 0.8);
        let corner = [[0.5, 0.0], [1.0, 0.0], [1.0, 0.5]];
        assert_eq!(score(&corner, 0.0), 0.0);
        // An L round the first box and not the second, in either direction.
        let mut hook = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.5, 0.5], [0.5, 1.0], [0.0, 1.0]];
        assert_eq!(score(&hook, 0.0), 0.9);
        hook.reverse();
        assert_eq!(score(&hook, 0.0), 0.9);
        assert_eq!(score(&hook[..2], 0.0), 0.0);
    }
}
