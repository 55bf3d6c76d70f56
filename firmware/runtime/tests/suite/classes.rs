//! From logits to classes.

use proptest::prelude::*;
use resight_runtime::{predictions, sigmoid, softmax, top_k};

#[test]
fn softmax_is_the_formula() {
    let mut values = [1.0, 2.0, 3.0, -4.0];
    softmax(&mut values);
    let exact: Vec<f64> = [1.0f64, 2.0, 3.0, -4.0].iter().map(|value| value.exp()).collect();
    let sum: f64 = exact.iter().sum();
    for (value, exact) in values.iter().zip(exact) {
        assert!((f64::from(*value) - exact / sum).abs() < 1e-7);
    }
}

/// These bits must come out on every machine.
#[test]
fn softmax_has_the_same_bits_everywhere() {
    let mut values: Vec<f32> = (0..1000).map(|index| ((index * 7919) % 1000) as f32 / 50.0).collect();
    softmax(&mut values);
    let sum =
        values.iter().fold(0u64, |sum, value| sum.wrapping_mul(31).wrapping_add(value.to_bits().into()));
    assert_eq!(sum, 15578437084788096838);
}

#[test]
fn sigmoid_is_the_formula_and_that_of_two_classes() {
    for logit in [-60.0f32, -17.25, -1.0, -0.0, 0.0, 0.3, 4.0, 30.0] {
        let mut value = [logit];
        sigmoid(&mut value);
        let exact = 1.0 / (1.0 + (-f64::from(logit)).exp());
        assert!((f64::from(value[0]) - exact).abs() <= 1e-7 * exact, "{logit}: {}", value[0]);
        // A network of one output is one of two classes, with the logits 0 and its own.
        let mut two = [0.0, logit];
        softmax(&mut two);
        assert!((two[1] - value[0]).abs() < 1e-7);
    }
    let mut extreme = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN];
    sigmoid(&mut extreme);
    assert_eq!(extreme, [0.0, 1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn extreme_logits_do_no_harm() {
    for (mut values, expected) in [
        (vec![], vec![]),
        (vec![f32::NAN], vec![0.0]),
        (vec![f32::NEG_INFINITY; 2], vec![0.0; 2]),
        (vec![f32::MAX, f32::MIN], vec![1.0, 0.0]),
        (vec![f32::INFINITY, 0.0, f32::INFINITY, f32::NAN], vec![0.5, 0.0, 0.5, 0.0]),
        (vec![1e30, 1e30], vec![0.5, 0.5]),
    ] {
        softmax(&mut values);
        assert!(values == expected, "{values:?}");
    }
}

#[test]
fn equal_values_rank_by_class() {
    assert_eq!(top_k(&[1.0, 3.0, 3.0, 2.0, 3.0], 3), [1, 2, 4]);
    assert_eq!(top_k(&[1.0, 3.0, 3.0, 2.0, 3.0], 9), [1, 2, 4, 3, 0]);
    assert_eq!(top_k(&[0.0, -0.0], 1), [0]);
    assert_eq!(top_k(&[f32::NAN, 1.0, f32::NEG_INFINITY], 3), [1, 0, 2]);
    assert!(top_k(&[], 5).is_empty());
    assert!(top_k(&[1.0], 0).is_empty());
    assert_eq!(top_k(&[1.0], usize::MAX), [0]);
}

#[test]
fn predictions_are_ranked_by_logit() {
    // The lower two probabilities round to zero.
    let found = predictions(&[-900.0, 0.0, -800.0], 3);
    assert_eq!(found.iter().map(|prediction| prediction.class).collect::<Vec<_>>(), [1, 2, 0]);
    let bits = |index: usize| found[index].probability.to_bits();
    assert_eq!([bits(0), bits(1), bits(2)], [1.0f32, 0.0, 0.0].map(f32::to_bits));
}

proptest! {
    #[test]
    fn top_k_is_a_stable_sort(values in prop::collection::vec((-5i8..5).prop_map(f32::from), 0..60), count in 0usize..70) {
        let mut expected: Vec<usize> = (0..values.len()).collect();
        expected.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        expected.truncate(count);
        prop_assert_eq!(top_k(&values, count), expected);
    }

    #[test]
    fn any_floats_give_probabilities(bits in prop::collection::vec(any::<u32>(), 1..40)) {
        let mut values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        top_k(&values, 5);
        let mut each = values.clone();
        softmax(&mut values);
        sigmoid(&mut each);
        prop_assert!(values.iter().chain(&each).all(|value| (0.0..=1.0).contains(value)));
    }
}
