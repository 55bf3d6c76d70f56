//! Photographs that are nearly the same, such as frames of a burst.

/// Side of the small grey pictures that are compared.
pub const SIDE: usize = 16;

/// A small grey picture, `[SIDE][SIDE]`.
pub type Thumbnail = [u8; SIDE * SIDE];

/// Correlation from which two pictures are one scene. Different photographs of flowers, of one piece of
/// waste turned by hand, and of one kind of tile stay below it; frames of a burst are above.
const ALIKE: f64 = 0.96;

/// Photographs before each that it is compared with.
pub const REACH: usize = 3000;

/// The picture as a thumbnail: mean grey levels of its fields, whatever its proportions.
pub fn thumbnail(image: &image::RgbImage) -> Thumbnail {
    let small =
        image::imageops::resize(image, SIDE as u32, SIDE as u32, image::imageops::FilterType::Triangle);
    let mut levels = [0; SIDE * SIDE];
    for (level, pixel) in levels.iter_mut().zip(small.pixels()) {
        let [red, green, blue] = pixel.0.map(u32::from);
        *level = ((red * 77 + green * 150 + blue * 29 + 128) >> 8) as u8;
    }
    levels
}

/// The correlation of two thumbnails' grey levels, -1 to 1; 0 for a picture without any contrast.
fn correlation(a: &Thumbnail, b: &Thumbnail) -> f64 {
    let n = (SIDE * SIDE) as i64;
    let (mut sum_a, mut sum_b, mut aa, mut bb, mut ab) = (0_i64, 0_i64, 0_i64, 0_i64, 0_i64);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (i64::from(a), i64::from(b));
        sum_a += a;
        sum_b += b;
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let (va, vb) = (n * aa - sum_a * sum_a, n * bb - sum_b * sum_b);
    if va == 0 || vb == 0 {
        return 0.0;
    }
    (n * ab - sum_a * sum_b) as f64 / (va as f64 * vb as f64).sqrt()
}

/// Joins photographs that are nearly the same: a group for each, counted from 0 in the order of their
/// first photographs. `given` are groups that belong together anyway.
///
/// Two photographs are nearly the same when they are of one class, their thumbnails correlate *and*
/// `similar` says so of their features: plain backgrounds look alike in grey whatever lies before them.
/// Of many photographs each is compared with the [`REACH`] before it.
pub fn groups(
    thumbnails: &[Thumbnail],
    classes: &[usize],
    given: &[usize],
    similar: impl Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..thumbnails.len()).collect();
    let mut first_of = std::collections::HashMap::new();
    for (photograph, group) in given.iter().enumerate() {
        let first = *first_of.entry(group).or_insert(photograph);
        join(&mut parents, first, photograph);
    }
    for one in 0..thumbnails.len() {
        for other in one.saturating_sub(REACH)..one {
            if classes[one] == classes[other]
                && correlation(&thumbnails[one], &thumbnails[other]) > ALIKE
                && similar(one, other)
            {
                join(&mut parents, one, other);
            }
        }
    }
    let mut numbers = std::collections::HashMap::new();
    (0..thumbnails.len())
        .map(|photograph| {
            let next = numbers.len();
            *numbers.entry(root(&parents, photograph)).or_insert(next)
        })
        .collect()
}

fn root(parents: &[usize], mut at: usize) -> usize {
    while parents[at] != at {
        at = parents[at];
    }
    at
}

fn join(parents: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root(parents, one), root(parents, other));
    // The earlier one stays, so that the result does not depend on the order of joining.
    parents[one.max(other)] = one.min(other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn scene(seed: u64, noise: u64) -> image::RgbImage {
        let mut random = Random::new(seed, &[]);
        let base: Vec<u8> = (0..64).map(|_| random.below(200) as u8).collect();
        let mut random = Random::new(noise, &[]);
        image::RgbImage::from_fn(64, 64, |x, y| {
            let level = base[(y / 8 * 8 + x / 8) as usize] + random.below(20) as u8;
            image::Rgb([level; 3])
        })
    }

    #[test]
    fn frames_of_a_burst_are_one_group() {
        let pictures = [scene(1, 1), scene(2, 1), scene(1, 2), scene(3, 1), scene(2, 2)];
        let thumbnails: Vec<Thumbnail> = pictures.iter().map(thumbnail).collect();
        let apart: Vec<usize> = (0..5).collect();
        let one_class = [0; 5];
        assert_eq!(groups(&thumbnails, &one_class, &apart, |_, _| true), [0, 1, 0, 2, 1]);
        assert_eq!(groups(&thumbnails, &[0, 0, 1, 0, 0], &apart, |_, _| true), [0, 1, 2, 3, 1]);
        assert_eq!(groups(&thumbnails, &one_class, &apart, |_, _| false), [0, 1, 2, 3, 4]);
        assert_eq!(groups(&thumbnails, &one_class, &[0, 1, 2, 0, 4], |_, _| true), [0, 1, 0, 0, 1]);
    }
}
