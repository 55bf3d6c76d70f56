//! Directions of vectors.

/// Divides a vector by its L2 norm, unless that is zero. The same bits on every machine.
pub fn normalise(vector: &mut [f32]) {
    let norm = length(vector);
    if norm > 0.0 {
        for value in vector {
            *value = (f64::from(*value) / norm) as f32;
        }
    }
}

/// The cosine of the angle between two vectors, `-1..=1`; 0 where one of them has no length. The same bits
/// on every machine.
pub fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let product: f64 = one.iter().zip(other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let lengths = length(one) * length(other);
    if lengths > 0.0 { (product / lengths).clamp(-1.0, 1.0) as f32 } else { 0.0 }
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_is_that_of_the_directions() {
        assert_eq!(cosine(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(cosine(&[3.0, 4.0], &[-3.0, -4.0]), -1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 5.0]), 0.0);
        assert!((cosine(&[1.0, 0.0], &[3.0, 4.0]) - 0.6).abs() < 1e-7);
        assert_eq!(cosine(&[0.0, 0.0], &[3.0, 4.0]), 0.0);
        // Squares of these are beyond what an f32 holds.
        assert_eq!(cosine(&[1e30, 0.0], &[1e30, 0.0]), 1.0);
    }

    #[test]
    fn a_normalised_vector_has_the_length_one() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0, 0.0];
        normalise(&mut nothing);
        assert_eq!(nothing, [0.0, 0.0]);
    }
}
