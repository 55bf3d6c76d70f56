//! Points as rules see them: the surest of each thing, where the rule looks.

use super::boxes::{BoxCondition, contains};
use super::evidence::{Evidence, Place};

/// A point that the network has found, such as a joint.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SeenPoint {
    pub(crate) class: usize,
    /// Which of the things that were seen has it: points of one thing have one number.
    pub(crate) thing: usize,
    /// `0..=1`.
    pub(crate) score: f32,
    /// `[x, y]` as shares of the picture, each `0..=1`.
    pub(crate) place: [f32; 2],
}

/// What speaks for some classes: the surest of their points that lie in the zone, or anywhere where there
/// is none; of several things that must be there, the surest point of the last of as many, so that it reaches
/// a threshold where so many things do. Class and place are those of the surest of all, of equals the first.
/// `surest` is memory.
pub(super) fn evidence(
    points: &[SeenPoint],
    classes: &[usize],
    condition: &BoxCondition,
    surest: &mut Vec<SeenPoint>,
) -> Evidence {
    let zone = &condition.zone;
    let counted = points
        .iter()
        .filter(|point| classes.contains(&point.class))
        .filter(|point| zone.is_empty() || contains(zone, point.place));
    surest.clear();
    for point in counted {
        match surest.iter_mut().find(|best| best.thing == point.thing) {
            None => surest.push(*point),
            Some(best) if point.score > best.score => *best = *point,
            Some(_) => {}
        }
    }
    surest.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.class.cmp(&b.class)));
    let (first, last) = (surest.first(), surest.get(condition.count.saturating_sub(1)));
    Evidence {
        score: last.map_or(0.0, |point| point.score),
        class: first.map_or(classes.first().copied().unwrap_or(0), |point| point.class),
        place: first.map(|point| Place::Point(point.place)),
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
        let found = |classes: &[usize], zone: &[[f32; 2]]| {
            let condition = BoxCondition { zone: zone.to_vec(), ..BoxCondition::default() };
            evidence(&points, classes, &condition, &mut vec![])
        };
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
            assert_eq!(found(classes, zone), expected, "{classes:?} {zone:?}");
        }
    }

    #[test]
    fn a_rule_is_as_sure_as_the_last_thing_that_it_needs() {
        // Two wrists (0 and 1) of three things, one of which shows only one of them.
        let points = [(0, 0, 0.9), (1, 0, 0.8), (0, 1, 0.4), (1, 1, 0.7), (1, 2, 0.5)];
        let points = points.map(|(class, thing, score)| SeenPoint { class, thing, score, place: [0.5; 2] });
        let mut surest = vec![];
        let mut found = |classes: &[usize], count| {
            let condition = BoxCondition { count, ..BoxCondition::default() };
            let Evidence { score, class, place, .. } = evidence(&points, classes, &condition, &mut surest);
            (score, class, place.is_some())
        };
        assert_eq!([1, 2, 3, 4].map(|count| found(&[0, 1], count).0), [0.9, 0.7, 0.5, 0.0]);
        assert_eq!(
            [1, 2, 3].map(|count| found(&[0], count)),
            [(0.9, 0, true), (0.4, 0, true), (0.0, 0, true)]
        );
        assert_eq!(found(&[1], 2), (0.7, 1, true));
        assert_eq!(found(&[5], 1), (0.0, 5, false));
    }
}
