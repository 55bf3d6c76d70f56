//! Scales and zero points.

use resight_runtime::Quantisation;

use super::constant::{Integers, Weights};
use super::fault::QuantisedFault;
use crate::import::array::Array;
use crate::import::width::Width;

/// Scales and zero points of a tensor: one of each, or one for each index of an axis.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    pub(super) scales: Vec<f32>,
    /// As many, in the numbers of the type.
    pub(super) zero_points: Vec<i64>,
    /// The axis that they lie along, as the file has it; of no meaning for one scale.
    pub(super) axis: i64,
    pub(super) width: Width,
}

impl Parameters {
    /// Those of a result of the network, as int8.
    pub(super) fn activation(&self) -> Result<Quantisation, QuantisedFault> {
        let (&[scale], &[zero]) = (self.scales.as_slice(), self.zero_points.as_slice()) else {
            return Err(QuantisedFault::ActivationPerChannel);
        };
        // The zero point was checked to be one of the type's numbers.
        Ok(Quantisation { scale, zero_point: zero as i32 - self.width.offset() })
    }

    /// The axis of the scales, where there are several.
    fn axis_of(&self, dims: &[usize]) -> Result<Option<usize>, QuantisedFault> {
        if self.scales.len() == 1 {
            return Ok(None);
        }
        let axis = if self.axis < 0 { self.axis.saturating_add(dims.len() as i64) } else { self.axis };
        let fits = usize::try_from(axis).ok().filter(|&axis| dims.get(axis) == Some(&self.scales.len()));
        let scales = self.scales.len();
        fits.map(Some).ok_or_else(|| QuantisedFault::Axis { scales, axis: self.axis, dims: dims.to_vec() })
    }

    /// Which scale each element of a tensor has.
    fn positions(&self, dims: &[usize]) -> Result<impl Fn(usize) -> usize + use<>, QuantisedFault> {
        let axis = self.axis_of(dims)?;
        let inner: usize = axis.map_or(1, |axis| dims[axis + 1..].iter().product());
        let count = self.scales.len();
        Ok(move |index: usize| index / inner.max(1) % count)
    }

    /// The real numbers that integers stand for, and what remains of the integers.
    pub(super) fn dequantise(&self, integers: &Integers) -> Result<(Array<f32>, Weights), QuantisedFault> {
        let dims = &integers.array.dims;
        let position = self.positions(dims)?;
        let (mut real, mut magnitudes) = (vec![], vec![]);
        for (index, &integer) in integers.array.data.iter().enumerate() {
            let at = position(index);
            let steps = integer - self.zero_points[at];
            real.push((f64::from(self.scales[at]) * steps as f64) as f32);
            magnitudes.push(u32::try_from(steps.unsigned_abs()).unwrap_or(u32::MAX));
        }
        let magnitudes = Array { dims: dims.clone(), data: magnitudes };
        let weights = Weights { magnitudes, axis: self.axis_of(dims)?, scales: self.scales.clone() };
        Ok((Array { dims: dims.clone(), data: real }, weights))
    }

    /// Rounds constants: halves to the even number.
    pub(super) fn quantise(&self, real: &Array<f32>) -> Result<Integers, QuantisedFault> {
        let position = self.positions(&real.dims)?;
        let (least, most) = self.width.range();
        let round = |(index, &value): (usize, &f32)| {
            let at = position(index);
            let steps = (value / self.scales[at]).round_ties_even() as i64;
            steps.saturating_add(self.zero_points[at]).clamp(least, most)
        };
        let data = real.data.iter().enumerate().map(round).collect();
        Ok(Integers { array: Array { dims: real.dims.clone(), data }, width: self.width })
    }
}
