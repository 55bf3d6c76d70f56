//! Ratios of scales as integers: a multiplier and a shift to the right.

/// Half of the last place that a shift to the right drops: added before it, halves go up.
pub(crate) fn half(shift: u32) -> i64 {
    if shift == 0 { 0 } else { 1 << (shift - 1) }
}

/// Multiplier and shift of a ratio, `multiplier / 2^shift`, with as many bits as fit `most` and
/// `max_shift`, which is below 32. The multiplier is rounded, halves to even.
///
/// `None` of a ratio that is not positive or above `most`.
pub(crate) fn fixed_point(ratio: f64, most: u32, max_shift: u32) -> Option<(u32, u32)> {
    let scaled = |shift: u32| ratio * f64::from(1u32 << shift);
    let fits = |shift: &u32| scaled(*shift) <= f64::from(most);
    let is_possible = ratio > 0.0 && ratio <= f64::from(most);
    let shift = (0..=max_shift).take_while(fits).last().filter(|_| is_possible)?;
    Some((scaled(shift).round_ties_even() as u32, shift))
}

/// The nearest int8 value. By way of 16 bits, since that is how vectors narrow and saturate.
#[inline(always)]
pub(crate) fn saturate(value: i32) -> i8 {
    let narrow = value.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    narrow.clamp(i8::MIN.into(), i8::MAX.into()) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_has_as_many_bits_as_fit() {
        assert_eq!(fixed_point(0.75, 3, 30), Some((3, 2)));
        assert_eq!(fixed_point(0.75, 100, 4), Some((12, 4)));
        assert_eq!(fixed_point(1.0 / 3.0, 1 << 31, 30), Some((357_913_941, 30)));
        assert_eq!(fixed_point(100.0, 100, 30), Some((100, 0)));
        for impossible in [0.0, -1.0, f64::NAN, f64::INFINITY, 101.0] {
            assert_eq!(fixed_point(impossible, 100, 30), None, "{impossible}");
        }
    }

    #[test]
    fn halves_go_up() {
        assert_eq!([0, 1, 4].map(half), [0, 1, 8]);
        assert_eq!([-3i64, -1, 1, 3].map(|value| (value + half(1)) >> 1), [-1, 0, 1, 2]);
    }
}
