//! How alike points are: PCK, and COCO's similarity of key points.

use resight_runtime::Point;

use super::coco::LabelledThing;

/// What part of the larger side of its box a point may be away from where it is, to be right.
pub const NEAR: f64 = 0.2;

/// How far points are apart when people label them twice, for each of COCO's 17 points of a person, as a
/// part of the root of the area (the documentation of COCO's evaluation).
const COCO_DEVIATIONS: [f64; 17] = [
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
    0.089, 0.089,
];

fn distance(found: &Point, point: [f64; 2]) -> f64 {
    let [down, right] = [0, 1].map(|axis| f64::from(found.place[axis]) - point[axis]);
    down.hypot(right)
}

/// Of each point whether it is near where it is labelled; nothing of those that are not labelled.
pub fn correct(found: &[Option<Point>], thing: &LabelledThing) -> Vec<Option<bool>> {
    let bounds = thing.bounds;
    let side = f64::from((bounds.right - bounds.left).max(bounds.bottom - bounds.top));
    let is_near =
        |found: &Option<Point>, point| found.is_some_and(|found| distance(&found, point) <= NEAR * side);
    let points = found.iter().zip(&thing.points);
    points.map(|(found, point)| point.map(|point| is_near(found, point))).collect()
}

/// COCO's similarity, `0..=1`: the mean over the labelled points of
/// `exp(-distance^2 / (2 * area * (2 * deviation)^2))`, 0 of one that was not found. `None` of other points than COCO's 17 of a person,
/// whose deviations are not known.
pub fn similarity(found: &[Option<Point>], thing: &LabelledThing) -> Option<f64> {
    if thing.points.len() != COCO_DEVIATIONS.len() {
        return None;
    }
    let (mut sum, mut count) = (0.0, 0usize);
    for ((found, point), deviation) in found.iter().zip(&thing.points).zip(COCO_DEVIATIONS) {
        let Some(point) = point else { continue };
        count += 1;
        if let Some(found) = found {
            let width = 2.0 * thing.area.max(f64::EPSILON) * (2.0 * deviation).powi(2);
            sum += (-distance(found, *point).powi(2) / width).exp();
        }
    }
    Some(sum / count.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resight_runtime::Bounds;

    fn thing(points: Vec<Option<[f64; 2]>>) -> LabelledThing {
        let bounds = Bounds { left: 0.0, top: 0.0, right: 10.0, bottom: 50.0 };
        LabelledThing { picture: "a.png".into(), bounds, area: 400.0, points }
    }

    fn found(places: &[[f32; 2]]) -> Vec<Option<Point>> {
        let point = |(class, &place)| Point { class, thing: 0, score: 0.5, place };
        places.iter().enumerate().map(point).map(Some).collect()
    }

    #[test]
    fn points_are_right_within_a_part_of_the_larger_side() {
        let thing = thing(vec![Some([10.0, 10.0]), Some([10.0, 10.0]), None]);
        let found = found(&[[10.0, 20.0], [10.0, 20.5], [0.0, 0.0]]);
        assert_eq!(correct(&found, &thing), [Some(true), Some(false), None]);
        assert_eq!(similarity(&found, &thing), None);
    }

    #[test]
    fn similarity_is_cocos() {
        let mut points = vec![None; 17];
        (points[0], points[11]) = (Some([5.0, 5.0]), Some([30.0, 5.0]));
        let mut places = vec![[0.0; 2]; 17];
        (places[0], places[11]) = ([5.0, 6.0], [30.0, 5.0]);
        // One pixel off at the nose, and nothing at the left hip.
        let nose = (-1.0f64 / (2.0 * 400.0 * 0.052f64.powi(2))).exp();
        let similarity = similarity(&found(&places), &thing(points)).unwrap();
        assert!((similarity - nose.midpoint(1.0)).abs() < 1e-9, "{similarity}");
    }
}
