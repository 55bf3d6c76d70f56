//! The hard swish of integers, as TFLite computes it: `x * min(max(x + 3, 0), 6) / 6` by multipliers of 16 bits.
//! It is a step off the real function for up to five of the 256 integers, which may be those that many values are.

use super::schema::Steps;

/// What each integer from `least` on becomes. `None` where the scales are beyond the arithmetic.
pub(super) fn integers(from: &Steps, to: &Steps, least: i64) -> Option<Vec<i64>> {
    // In `f32`, as the rest of it is.
    let fine = from.scales.first()? / 128.0;
    let output = Multiplier::of(f64::from(fine / to.scales.first()?))?;
    let gate = Multiplier::of(f64::from(fine / (3.0 / 32768.0)))?;
    let (zero, output_zero) = (*from.zero_points.first()?, *to.zero_points.first()?);
    let is_usable = (-15..=0).contains(&output.exponent) && gate.exponent >= -15;
    let of = |q: i64| {
        let x = (q - zero) * 128;
        // From -1 to 1 where x is from -3 to 3.
        let mut share = x;
        if gate.exponent > 0 {
            share = shifted(share, gate.exponent - 1);
        }
        share = high_product(share, gate.multiplier);
        if gate.exponent > 0 {
            share = shifted(share, 1);
        }
        share = (divided(share, -gate.exponent.min(0)) + 32768) >> 1;
        // Towards zero, unlike the other products.
        let product = share * high_product(x, output.multiplier) / 32768;
        (divided(product, -output.exponent) + output_zero).clamp(least, least + 255)
    };
    is_usable.then(|| (least..least + 256).map(of).collect())
}

/// A number as `multiplier / 2^15 * 2^exponent`.
struct Multiplier {
    multiplier: i64,
    exponent: i32,
}

impl Multiplier {
    /// `None` of what is not finite, as two scales that are far apart may give.
    fn of(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let (fraction, mut exponent) = libm::frexp(value);
        let mut wide = (fraction * f64::from(1u32 << 31)).round() as i64;
        if wide == 1 << 31 {
            (wide, exponent) = (1 << 30, exponent + 1);
        }
        Some(Self { multiplier: ((wide + (1 << 15)) >> 16).min(i64::from(i16::MAX)), exponent })
    }
}

/// The upper half of twice a product, halves up.
fn high_product(a: i64, b: i64) -> i64 {
    (a * b + (1 << 14)) >> 15
}

/// Multiplied with a power of two, as far as 16 bits go.
fn shifted(value: i64, by: i32) -> i64 {
    (value << by.min(32)).clamp(i16::MIN.into(), i16::MAX.into())
}

/// Divided by a power of two, halves away from zero.
fn divided(value: i64, by: i32) -> i64 {
    let half = if by == 0 { 0 } else { 1 << (by - 1) };
    let magnitude = (value.abs() + half) >> by;
    if value < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(scale: f32, zero: i64) -> Steps {
        Steps { scales: vec![scale], zero_points: vec![zero], axis: 0 }
    }

    #[test]
    fn integers_are_those_that_litert_gives() {
        // What LiteRT 2.3.0 gives is the real function but for these integers.
        type Case<'c> = ((f32, i64), (f32, i64), &'c [(i64, i64)]);
        let cases: [Case<'_>; 5] = [
            ((0.0716, 1), (0.037, -118), &[(-3, -121)]),
            ((99.0 / 4096.0, -20), (61.0 / 4096.0, -103), &[(62, 7)]),
            ((0.25, -8), (0.125, -125), &[]),
            ((0.0039, -20), (0.0021, -60), &[]),
            ((0.0009, 5), (0.0005, 0), &[]),
        ];
        for (from, to, other) in cases {
            let found = integers(&steps(from.0, from.1), &steps(to.0, to.1), -128).unwrap();
            for (q, found) in (-128..).zip(found) {
                let x = f64::from(from.0) * (q - from.1) as f64;
                let real = x * (x / 6.0 + 0.5).clamp(0.0, 1.0) / f64::from(to.0) + to.1 as f64;
                let real = (real.round() as i64).clamp(-128, 127);
                let expected = other.iter().find(|(other, _)| *other == q).map_or(real, |&(_, given)| given);
                assert_eq!(found, expected, "{q} of {from:?} and {to:?}");
            }
        }
    }

    #[test]
    fn numbers_of_uint8_are_those_of_int8_moved() {
        let signed = integers(&steps(0.0716, 1), &steps(0.037, -118), -128).unwrap();
        let unsigned = integers(&steps(0.0716, 129), &steps(0.037, 10), 0).unwrap();
        assert!(signed.iter().zip(&unsigned).all(|(signed, unsigned)| signed + 128 == *unsigned));
    }

    #[test]
    fn scales_beyond_the_arithmetic_have_no_integers() {
        assert_eq!(integers(&steps(1.0, 0), &steps(1e-3, 0), -128), None);
        assert_eq!(integers(&steps(1e-9, 0), &steps(1e-9, 0), -128), None);
        assert_eq!(integers(&steps(1e30, 0), &steps(1e-30, 0), -128), None);
        assert_eq!(integers(&steps(f32::MAX, 0), &steps(f32::MAX, 0), -128), None);
    }
}
