//! Points as rules see them: the surest of some of them, where the rule looks.

use super::boxes::contains;
use super::evidence::{Evidence, Place};

/// A point that the network has found, such as a joint.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SeenPoint {
    pub(crate) class: usize,
    /// Which of the things that were seen together has it.
    pub(crate) thing: usize,
    /// `0..=1`.
    pub(crate) score: f32,
    /// `[x, y]` as shares of the picture, each `0..=1`.
    pub(crate) place: [f32; 2],
}

/// What speaks for some classes: the surest of their points that lie in the zone, or anywhere where there
/// is none; of equals the first.
pub(super) fn evidence(points: &[SeenPoint], classes: &[usize], zone: &[[f32; 2]]) -> Evidence {
    let counted = points
        .iter()
        .filter(|point| classes.contains(&point.class))
        .filter(|point| zone.is_empty() || contains(zone, point.place));
    let surest = counted.reduce(|best, point| if point.score > best.score { point } else { best });
    Evidence {
        score: surest.map_or(0.0, |point| point.score),
        class: surest.map_or(classes.first().copied().unwrap_or(0), |point| point.class),
        place: surest.map(|point| Place::Point(point.place)),
        track: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_point_in_the_zone_counts() {
        type Case<'c> = (&'c [usize], &'c [[f32; 2]], f32, usize, Option<[f32; 2]>);
        let points = [([0.1, 0.1], 0.5), ([0.9, 0.9], 0.75), ([0.2, 0.9], 0.75)];
        let seen = |(class, (place, score))| SeenPoint { class, thing: 0, score, place };
        let points: Vec<SeenPoint> = points.into_iter().enumerate().map(seen).collect();
        let left: &[[f32; 2]] = &[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]];
        let table: [Case<'_>; 6] = [
            (&[0, 1, 2], &[], 0.75, 1, Some([0.9, 0.9])),
            (&[0, 1, 2], left, 0.75, 2, Some([0.2, 0.9])),
            (&[1, 0], left, 0.5, 0, Some([0.1, 0.1])),
            (&[1], left, 0.0, 1, None),
            (&[7], &[], 0.0, 7, None),
            (&[], &[], 0.0, 0, None),
        ];
        for (classes, zone, score, class, place) in table {
            let expected = Evidence { score, class, place: place.map(Place::Point), track: None };
            assert_eq!(evidence(&points, classes, zone), expected, "{classes:?} {zone:?}");
        }
    }
}
