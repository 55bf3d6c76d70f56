//! Signal and noise.

/// Sums of squares of a signal and of its error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Noise {
    /// Sum of the squares of the true values.
    pub signal: f64,
    /// Sum of the squares of the differences from them.
    pub noise: f64,
}

impl Noise {
    /// Counts one value and what stands for it.
    pub fn add(&mut self, value: f64, other: f64) {
        self.signal += value * value;
        self.noise += (value - other).powi(2);
    }

    /// Of the values in `reference` and what stands for each in `other`.
    pub fn of(reference: &[f32], other: &[f32]) -> Self {
        let mut noise = Self::default();
        for (&reference, &other) in reference.iter().zip(other) {
            noise.add(f64::from(reference), f64::from(other));
        }
        noise
    }

    /// Like [`of`](Self::of), after the mean of either was removed from it.
    pub fn centred(reference: &[f32], other: &[f32]) -> Self {
        let mean = |values: &[f32]| {
            values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
        };
        let (reference_mean, other_mean) = (mean(reference), mean(other));
        let mut noise = Self::default();
        for (&reference, &other) in reference.iter().zip(other) {
            noise.add(f64::from(reference) - reference_mean, f64::from(other) - other_mean);
        }
        noise
    }

    /// Adds the sums of another set of values.
    pub fn merge(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// `10 * log10(signal / noise)`, capped at 200 dB where there is no noise.
    pub fn decibel(&self) -> f64 {
        sqnr_db(self.signal, self.noise)
    }
}

/// `10 * log10(signal / noise)`, capped at 200 dB where there is no noise.
pub fn sqnr_db(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { 200.0 } else { (10.0 * (signal / noise).log10()).min(200.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_values_share_is_no_centred_signal() {
        let (reference, other) = ([101.0, 99.0, 100.0], [111.0, 109.0, 110.5]);
        let plain = Noise::of(&reference, &other);
        assert_eq!(plain, Noise { signal: 30002.0, noise: 10.0 * 10.0 * 2.0 + 10.5 * 10.5 });
        let centred = Noise::centred(&reference, &other);
        assert!((centred.signal - 2.0).abs() < 1e-9, "{centred:?}");
        // The others' mean is a sixth above their common offset of ten.
        assert!((centred.noise - (2.0 / 36.0 + 1.0 / 9.0)).abs() < 1e-9, "{centred:?}");
    }

    #[test]
    fn no_noise_has_an_end() {
        assert_eq!(Noise { signal: 1.0, noise: 0.0 }.decibel(), 200.0);
        assert_eq!(Noise { signal: 100.0, noise: 1.0 }.decibel(), 20.0);
    }
}
