//! The one arithmetic of resight, obeyed bit for bit by every kernel on every machine.
//!
//! # Numbers
//! - An activation is `i8` with one scale and zero point for the whole tensor:
//!   `real = scale * (q - zero_point)`. A ReLU output has zero point -128, so that it uses
//!   all 256 steps and *saturation is the ReLU*: no kernel clamps for any other reason.
//! - A weight is `i8` in `[-127, 127]`, symmetric, with one scale per output channel.
//! - Accumulators and biases are `i32`. A layer is only accepted when its accumulators
//!   cannot overflow (see [`accumulator_bound`]), so the order of summation is free.
//!
//! # Zero points
//! They do not appear in any kernel. `sum(w * (a - za))` is `sum(w * a) - za * sum(w)`; the
//! second term, the output's zero point and the residual's zero point are all constants of
//! the channel and folded into its bias. Padding writes the input's zero point.
//!
//! # Requantisation
//! For an accumulator `acc` of channel `c`, with the layer's `shift`, the channel's
//! `multiplier` and, for a residual addition, the layer's `residual_multiplier`:
//!
//! ```text
//! t   = floor((acc << shift) * multiplier[c] / 2^31)      a Q8 number: 8 fractional bits
//! t   = t + residual_multiplier * residual                when there is a residual
//! out = saturate_i8(floor((t + 128) / 256))
//! ```
//!
//! So an output's real multiplier is `multiplier / 2^31 * 2^shift / 2^8`, there is one
//! rounding (half up) and one saturation, and the residual takes part with 8 fractional
//! bits. On NEON this is `sqdmulh`, `smlal`, `sqrshrn #8`, `sqxtn`: the shape of the formula
//! is the shape of the instructions.

/// Fractional bits of the fixed-point number between multiplication and rounding.
pub const FRACTION_BITS: u32 = 8;

/// Largest left shift of an accumulator before its multiplication.
pub const MAX_SHIFT: u32 = 15;

/// Largest multiplier of a residual (it must fit a signed 16-bit lane).
pub const MAX_RESIDUAL_MULTIPLIER: i32 = i16::MAX as i32;

/// Multiplies an accumulator: `floor((accumulator << shift) * multiplier / 2^31)`, Q8.
///
/// `accumulator << shift` must fit in `i32` (guaranteed by [`accumulator_bound`]).
#[inline(always)]
pub fn multiply(accumulator: i32, shift: u32, multiplier: i32) -> i32 {
    ((i64::from(accumulator << shift) * i64::from(multiplier)) >> 31) as i32
}

/// Rounds a Q8 number half up and saturates it: `saturate_i8(floor((t + 128) / 256))`.
#[inline(always)]
pub fn round_to_i8(t: i32) -> i8 {
    const HALF: i32 = 1 << (FRACTION_BITS - 1);
    // What rounds to the ends; saturating first cannot overflow and takes fewer instructions.
    const LEAST: i32 = ((i8::MIN as i32) << FRACTION_BITS) - HALF;
    const MOST: i32 = ((i8::MAX as i32) << FRACTION_BITS) + HALF - 1;
    ((t.clamp(LEAST, MOST) + HALF) >> FRACTION_BITS) as i8
}

/// The whole epilogue of one output: see the [module](self) for the formula.
#[inline(always)]
pub fn requantise(accumulator: i32, shift: u32, multiplier: i32, residual: i32) -> i8 {
    round_to_i8(multiply(accumulator, shift, multiplier) + residual)
}

/// Splits a real multiplier `acc -> output` per channel into the layer's `shift` and the
/// channels' integer multipliers.
///
/// The shift is the smallest with which every `real * 256` is below `2^shift`. Returns
/// `None` where a multiplier is not finite and positive, or would need a shift above
/// [`MAX_SHIFT`].
pub fn quantise_multipliers(real: &[f64]) -> Option<(u32, alloc::vec::Vec<i32>)> {
    let largest = real.iter().copied().fold(0.0, f64::max);
    let scale = f64::from(1u32 << FRACTION_BITS);
    if real.iter().any(|m| !m.is_finite() || *m <= 0.0) {
        return None;
    }
    let fits =
        |shift: u32| round_half_up(largest * scale / f64::from(1u32 << shift) * 2147483648.0) <= 2147483647.0;
    let shift = (0..=MAX_SHIFT).find(|&shift| fits(shift))?;
    let factor = scale / f64::from(1u32 << shift) * 2147483648.0;
    let multipliers = real.iter().map(|m| (round_half_up(m * factor) as i32).max(1)).collect();
    Some((shift, multipliers))
}

/// `floor(x + 0.5)` for a non-negative number, without `std`'s `floor`.
fn round_half_up(x: f64) -> f64 {
    ((x + 0.5) as u64) as f64
}

/// The largest magnitude that the accumulator of one output channel can reach:
/// `sum(|w|) * 128 + |bias|`.
pub fn accumulator_bound(weights: &[i8], bias: i32) -> i64 {
    // So many magnitudes have a sum that fits 32 bits, which vectors add faster than 64.
    let sum = |weights: &[i8]| weights.iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>();
    let sum: i64 = weights.chunks(1 << 16).map(|weights| i64::from(sum(weights))).sum();
    sum * 128 + i64::from(bias).abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same formula over f64 with exact integers, written independently.
    fn plain(accumulator: i32, shift: u32, multiplier: i32, residual: i32) -> i8 {
        let wide = i128::from(accumulator) * (1i128 << shift) * i128::from(multiplier);
        let t = wide.div_euclid(1 << 31) + i128::from(residual);
        (t + 128).div_euclid(256).clamp(-128, 127) as i8
    }

    proptest! {
        #[test]
        fn requantise_is_the_formula(
            accumulator in -(1i32 << 24)..(1 << 24),
            shift in 0u32..7,
            multiplier in 1i32..,
            residual in -(128i32 * 32767)..=(128 * 32767),
        ) {
            prop_assert_eq!(
                requantise(accumulator, shift, multiplier, residual),
                plain(accumulator, shift, multiplier, residual)
            );
        }

        #[test]
        fn multipliers_are_close_to_the_real_ones(real in proptest::collection::vec(1e-6f64..60.0, 1..20)) {
            let (shift, multipliers) = quantise_multipliers(&real).unwrap();
            for (m, r) in multipliers.iter().zip(&real) {
                let back = f64::from(*m) / 2147483648.0 * f64::from(1u32 << shift) / 256.0;
                prop_assert!((back - r).abs() <= f64::from(1u32 << shift) / 256.0 / 2147483648.0);
            }
        }
    }

    #[test]
    fn half_rounds_up_on_both_sides_of_zero() {
        assert_eq!(round_to_i8(128), 1);
        assert_eq!(round_to_i8(127), 0);
        assert_eq!(round_to_i8(-128), 0);
        assert_eq!(round_to_i8(-129), -1);
    }

    #[test]
    fn saturation_holds_at_both_ends() {
        assert_eq!(round_to_i8(i32::MAX), 127);
        assert_eq!(round_to_i8(i32::MIN), -128);
        assert_eq!(requantise(i32::MAX, 0, i32::MAX, 0), 127);
        assert_eq!(requantise(i32::MIN, 0, i32::MAX, 0), -128);
    }

    #[test]
    fn unusable_multipliers_are_refused() {
        assert!(quantise_multipliers(&[f64::NAN]).is_none());
        assert!(quantise_multipliers(&[0.0]).is_none());
        assert!(quantise_multipliers(&[-1.0]).is_none());
        assert!(quantise_multipliers(&[1e9]).is_none());
    }

    #[test]
    fn a_multiplier_just_below_a_power_of_two_does_not_wrap() {
        let (shift, multipliers) = quantise_multipliers(&[(1.0 - 1e-12) / 256.0]).unwrap();
        assert_eq!(shift, 1);
        assert_eq!(multipliers, [1 << 30]);
    }
}
