//! Masks as rules see them: the share of a zone that some classes cover.

use super::boxes::MOST_CORNERS;
use super::evidence::Evidence;

/// What each place of a frame, or of a region of it, belongs to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SeenMask {
    /// Row by row, as the frame lies.
    pub(crate) classes: Vec<u8>,
    /// Height and width.
    pub(crate) size: [usize; 2],
    /// Left, top, width and height of what it covers, as shares of the frame; margins of a letterbox lie
    /// beyond it.
    pub(crate) covers: [f32; 4],
}

impl SeenMask {
    /// What speaks for some classes of this mask: their share of the zone, or without one of the frame, as
    /// far as the mask covers it. A place belongs to the zone if its middle does. `of_all` is what number
    /// 0 of the mask is among all classes.
    pub(super) fn evidence(&self, classes: &[usize], of_all: usize, zone: &[[f32; 2]]) -> Evidence {
        let mut wanted = [false; 256];
        for class in classes.iter().filter_map(|class| class.checked_sub(of_all)) {
            if let Some(wanted) = wanted.get_mut(class) {
                *wanted = true;
            }
        }
        let mut counts = [0_u64; 256];
        let mut places = 0;
        self.each_run(zone, |run| {
            places += run.len() as u64;
            for class in run {
                counts[usize::from(*class)] += 1;
            }
        });
        let covered: u64 =
            counts.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(count, _)| count).sum();
        // Of equals the first, which is the rule's first where there is none of them.
        let most = classes.iter().copied().reduce(|best, class| {
            let count = |class: usize| counts.get(class.wrapping_sub(of_all)).copied().unwrap_or(0);
            if count(class) > count(best) { class } else { best }
        });
        Evidence {
            score: if places == 0 { 0.0 } else { (covered as f64 / places as f64) as f32 },
            class: most.unwrap_or(0),
            place: None,
            track: None,
        }
    }

    /// Calls `take` with the classes of each stretch of a row that is in the zone and in the frame.
    fn each_run(&self, zone: &[[f32; 2]], mut take: impl FnMut(&[u8])) {
        let [rows, columns] = self.size;
        let [left, top, width, height] = self.covers;
        if columns == 0 || rows == 0 {
            return;
        }
        let [wide, high] = [width / columns as f32, height / rows as f32];
        // The first column whose middle is not before `x`.
        let column = |x: f32| (((x - left) / wide - 0.5).ceil().max(0.0) as usize).min(columns);
        for (row, classes) in self.classes.chunks_exact(columns).take(rows).enumerate() {
            let y = top + (row as f32 + 0.5) * high;
            if !(0.0..=1.0).contains(&y) {
                continue;
            }
            if zone.is_empty() {
                take(&classes[column(0.0)..column(1.0)]);
                continue;
            }
            let mut edges = crossings(zone, y);
            edges.sort_unstable_by(f32::total_cmp);
            for pair in edges.chunks_exact(2) {
                let (from, to) = (column(pair[0].max(0.0)), column(pair[1].min(1.0)));
                if from < to {
                    take(&classes[from..to]);
                }
            }
        }
    }
}

/// Where the sides of a polygon cross a row.
fn crossings(corners: &[[f32; 2]], y: f32) -> heapless::Vec<f32, MOST_CORNERS> {
    let mut found = heapless::Vec::new();
    let mut before = corners.last().copied().unwrap_or_default();
    for &corner in corners {
        let ([x0, y0], [x1, y1]) = (before, corner);
        if (y0 > y) != (y1 > y) {
            // There is room: a configuration has no more corners.
            let _ = found.push((x1 - x0) * (y - y0) / (y1 - y0) + x0);
        }
        before = corner;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::boxes::contains;
    use super::*;

    /// Four rows of six: a road (1) below, a car (2) on it, and margins of a letterbox above and below.
    fn street() -> SeenMask {
        let classes = vec![
            9, 9, 9, 9, 9, 9, //
            0, 0, 0, 0, 0, 0, //
            1, 1, 2, 2, 1, 1, //
            9, 9, 9, 9, 9, 9,
        ];
        SeenMask { classes, size: [4, 6], covers: [0.0, -0.5, 1.0, 2.0] }
    }

    #[test]
    fn a_class_covers_a_share_of_the_picture_or_of_a_zone() {
        // Classes, zone, score and the class that there is most of.
        type Case<'c> = (&'c [usize], &'c [[f32; 2]], f32, usize);

        let mask = street();
        let right = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]];
        let table: [Case<'_>; 7] = [
            (&[9], &[], 0.0, 9),
            (&[0], &[], 0.5, 0),
            (&[1, 2], &[], 0.5, 1),
            (&[2], &right, 1.0 / 3.0, 2),
            (&[1, 2], &right, 1.0, 1),
            (&[0], &right, 0.0, 0),
            (&[2, 300], &[[0.0, 0.0], [0.01, 0.0], [0.0, 0.01]], 0.0, 2),
        ];
        for (classes, zone, score, class) in table {
            let found = mask.evidence(classes, 0, zone);
            assert_eq!((found.score, found.class), (score, class), "{classes:?}, {zone:?}");
        }
        // The classes of the second region come after those of the first.
        assert_eq!(mask.evidence(&[12], 10, &right).score, 1.0 / 3.0);
        assert_eq!(mask.evidence(&[2], 10, &right).score, 0.0);
        assert_eq!(SeenMask::default().evidence(&[0], 0, &[]).score, 0.0);
    }

    proptest! {
        /// Against the definition, place by place.
        #[test]
        fn a_zone_holds_the_places_whose_middles_it_holds(
            zone in prop::collection::vec(prop::array::uniform2(0.0..1.0f32), 3..12), rows in 1..20usize, columns in 1..20usize,
            covers in prop::array::uniform4(-0.2..0.2f32)
        ) {
            let covers = [covers[0], covers[1], 1.0 + covers[2], 1.0 + covers[3]];
            let classes: Vec<u8> = (0..rows * columns).map(|index| (index * 7 % 3) as u8).collect();
            let (mut places, mut found) = (0, 0);
            for (index, class) in classes.iter().enumerate() {
                let x = covers[0] + ((index % columns) as f32 + 0.5) * (covers[2] / columns as f32);
                let y = covers[1] + ((index / columns) as f32 + 0.5) * (covers[3] / rows as f32);
                if (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) && contains(&zone, [x, y]) {
                    places += 1;
                    found += usize::from(*class == 1);
                }
            }
            let mask = SeenMask { classes, size: [rows, columns], covers };
            let score = mask.evidence(&[1], 0, &zone).score;
            let expected = if places == 0 { 0.0 } else { found as f32 / places as f32 };
            // Where a middle lies on a side, rounding decides.
            prop_assert!((score - expected).abs() <= 2.0 / places.max(1) as f32, "{score}, {expected}");
        }
    }
}
