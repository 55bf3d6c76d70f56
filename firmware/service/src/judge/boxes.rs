//! Boxes as rules see them: which of them count for a rule, and how much they speak for it.

use super::evidence::Evidence;

/// A box that the network has found, as shares of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SeenBox {
    pub(crate) class: usize,
    /// `0..=1`.
    pub(crate) score: f32,
    /// `[left, top, right, bottom]`, each `0..=1`.
    pub(crate) edges: [f32; 4],
}

impl SeenBox {
    /// The share of the picture that it covers.
    fn area(&self) -> f32 {
        let [left, top, right, bottom] = self.edges;
        (right - left).max(0.0) * (bottom - top).max(0.0)
    }

    fn middle(&self) -> [f32; 2] {
        let [left, top, right, bottom] = self.edges;
        [f32::midpoint(left, right), f32::midpoint(top, bottom)]
    }
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
}

impl Default for BoxCondition {
    /// One box of any size, anywhere.
    fn default() -> Self {
        Self { zone: vec![], least_size: 0.0, count: 1 }
    }
}

impl BoxCondition {
    fn admits(&self, seen: &SeenBox) -> bool {
        seen.area() >= self.least_size && (self.zone.is_empty() || contains(&self.zone, seen.middle()))
    }

    /// What speaks for a rule of `classes`: the score of the last of as many boxes as there must be, so
    /// that it reaches a threshold where so many boxes do; 0 if there are fewer. `boxes` has the
    /// likeliest first.
    pub(crate) fn evidence(&self, classes: &[usize], boxes: &[SeenBox]) -> Evidence {
        let mut counted = boxes.iter().filter(|seen| classes.contains(&seen.class) && self.admits(seen));
        let first = counted.next();
        let last = if self.count <= 1 { first } else { counted.nth(self.count - 2) };
        Evidence {
            score: last.map_or(0.0, |seen| seen.score),
            class: first.map_or(classes.first().copied().unwrap_or(0), |seen| seen.class),
            place: first.map(|seen| seen.edges),
        }
    }
}

/// Whether a point lies within a polygon, by the number of its sides to the left of the point. A
/// point on a side belongs to one of two polygons that share it.
fn contains(corners: &[[f32; 2]], [x, y]: [f32; 2]) -> bool {
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
        SeenBox { class, score, edges: [left, top, left + 0.25, top + 0.5] }
    }

    #[test]
    fn a_rule_is_as_sure_as_the_last_box_that_it_needs() {
        let boxes = [seen(1, 0.9, 0.0, 0.0), seen(0, 0.8, 0.5, 0.5), seen(1, 0.7, 0.5, 0.0)];
        let evidence = |classes: &[usize], count: usize| {
            let Evidence { score, class, place } =
                BoxCondition { count, ..BoxCondition::default() }.evidence(classes, &boxes);
            (score, class, place.map(|edges| edges[0]))
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
            BoxCondition { zone: zone.to_vec(), least_size, count: 1 }.evidence(&[0], &boxes).score
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
