//! A memory of typical patches, thinned.

use rayon::prelude::*;

use crate::random::Random;

/// Numbers that patches are projected to while the memory is thinned.
const PROJECTED: usize = 24;

/// Patches that are chosen from at most.
const CANDIDATES: usize = 30_000;

/// Rows of a memory of typical patches, wherever they were seen: see
/// [`NearestNeighbour`](resight_runtime::layers::NearestNeighbour).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coreset {
    /// `[row][component]`, in `[-127, 127]`.
    pub rows: Vec<i8>,
    components: usize,
}

/// Each patch as few numbers, by random signs (Johnson and Lindenstrauss; Achlioptas, 2003).
fn projected(patches: &[&[i8]], components: usize) -> Vec<[i32; PROJECTED]> {
    let mut random = Random::new(1, &[0x5e7]);
    let signs: Vec<[i32; PROJECTED]> =
        (0..components).map(|_| [0; PROJECTED].map(|_| if random.below(2) == 0 { 1 } else { -1 })).collect();
    let project = |patch: &&[i8]| {
        let mut sums = [0; PROJECTED];
        for (&value, signs) in patch.iter().zip(&signs) {
            sums.iter_mut().zip(signs).for_each(|(sum, sign)| *sum += i32::from(value) * sign);
        }
        sums
    };
    patches.par_iter().map(project).collect()
}

fn distance(a: &[i32; PROJECTED], b: &[i32; PROJECTED]) -> i64 {
    a.iter().zip(b).map(|(a, b)| i64::from(a - b) * i64::from(a - b)).sum()
}

impl Coreset {
    /// So many of the pictures' patches that none of the others is far from one: the next is always the one
    /// that is farthest from those that are there (greedy k-centre; Gonzalez, 1985).
    pub fn new(pictures: &[&[i8]], components: usize, most: usize) -> Self {
        let all: Vec<&[i8]> =
            pictures.iter().flat_map(|picture| picture.chunks_exact(components.max(1))).collect();
        let count = all.len().min(CANDIDATES);
        let patches: Vec<&[i8]> = (0..count).map(|index| all[index * all.len() / count]).collect();
        let places = projected(&patches, components);
        let mut nearest = vec![i64::MAX; count];
        let (mut next, mut rows) = (0, vec![]);
        for _ in 0..most.min(count) {
            rows.extend(patches[next].iter().map(|&value| value.max(-127)));
            let last = places[next];
            nearest
                .par_iter_mut()
                .zip(&places)
                .for_each(|(nearest, place)| *nearest = (*nearest).min(distance(place, &last)));
            // Of equals the first, whatever the threads.
            let farther =
                |best: usize, index: usize| if nearest[index] > nearest[best] { index } else { best };
            next = (0..count).fold(0, farther);
            if nearest[next] == 0 {
                break;
            }
        }
        Self { rows, components }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.components.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The distance of each place of a picture, as the layer computes it.
    pub fn map(&self, picture: &[i8]) -> Vec<f32> {
        let nearest = |place: &[i8]| {
            let row = |row: &[i8]| {
                let each = row.iter().zip(place).map(|(&a, &b)| i32::from(a) - i32::from(b));
                each.map(|difference| difference * difference).sum::<i32>()
            };
            let rows = self.rows.chunks_exact(self.components);
            (rows.map(row).min().unwrap_or(0) as f32).sqrt()
        };
        picture.chunks_exact(self.components.max(1)).map(nearest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_has_what_differs() {
        // Twenty patches around each of three points.
        let points = [[90, 0, 0], [0, 90, 0], [0, 0, -90_i8]];
        let pictures: Vec<Vec<i8>> = (0..20)
            .map(|n| points.iter().flat_map(|point| point.map(|value| value + n % 3)).collect())
            .collect();
        let views: Vec<&[i8]> = pictures.iter().map(Vec::as_slice).collect();
        let coreset = Coreset::new(&views, 3, 3);
        assert_eq!(coreset.len(), 3);
        for point in points {
            assert!(coreset.map(&point)[0] < 4.0, "{point:?} {coreset:?}");
        }
        assert!(coreset.map(&[0, 0, 90])[0] > 90.0);
        // As many as there are different ones, and no more.
        assert_eq!(Coreset::new(&views, 3, 1000).len(), 9);
    }
}
