//! The integers of a generalised mean.

use resight_runtime::Quantisation;
use resight_runtime::layers::GeneralisedMean;
use tract_onnx::tract_core::internal::*;

use crate::function::Function;

/// The largest term: a mean has as many bits, of which a cube root leaves ten.
const LARGEST: f64 = (1u32 << 30) as f64;

/// `outer(mean(inner(x)))` of int8 values that are worth `from`, in steps of `to`. The inner function is
/// never negative, the outer one rises.
pub fn generalised_mean(
    from: Quantisation,
    to: Quantisation,
    inner: &Function,
    outer: &Function,
) -> GeneralisedMean {
    let real = |q: i32| inner.at(f64::from(from.scale) * f64::from(q - from.zero_point), 0);
    let largest = (-128..128).map(real).fold(0.0, f64::max);
    let scale = if largest > 0.0 { LARGEST / largest } else { 1.0 };
    let terms: Vec<i32> = (-128..128).map(|q| (real(q) * scale).round().clamp(0.0, LARGEST) as i32).collect();
    let step = |mean: i32| {
        let steps = outer.at(f64::from(mean) / scale, 0) / f64::from(to.scale);
        (steps + f64::from(to.zero_point)).round()
    };
    // The least mean that reaches a step; none beyond the largest term is ever compared.
    let limit = |q: i32| {
        let (mut below, mut reached) = (-1, LARGEST as i32 + 1);
        while reached - below > 1 {
            let middle = below.midpoint(reached);
            *(if step(middle) >= f64::from(q) { &mut reached } else { &mut below }) = middle;
        }
        reached
    };
    let limits: Vec<i32> = (-127..128).map(limit).collect();
    GeneralisedMean {
        terms: tensor1(&terms).into_arc_tensor(),
        limits: tensor1(&limits).into_arc_tensor(),
        output: to,
    }
}
