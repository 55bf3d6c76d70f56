//! From a map of distances to how likely a picture shows something that is not typical.

use resight_kernels::{CacheSizes, Isa, KernelError, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer, one_input};
use crate::nnef::{input, integer};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Most places whose distances count.
const MAX_FARTHEST: usize = 64;

/// Two logits, for what is typical and for what is not.
///
/// Input: the distance of each place from what is typical, `[1, height, width, 1]` of `f32`, none of them
/// negative. Output: `[1, 2]` of `f32`: 0 and
///
/// `slope * log(distance / threshold)`
///
/// where the distance is the mean of the `farthest` largest of the map. So the softmax of the two gives the
/// second class one half at the threshold, and nearly all where the distance is some times that.
/// A fixed sequence of IEEE 754 operations and `libm`'s logarithm: the same bits on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// How many of the largest distances count, `1..=64`; all if there are fewer.
    pub farthest: usize,
    /// The distance at which a picture is as likely typical as not; positive.
    pub threshold: f32,
    /// How fast that changes; positive.
    pub slope: f32,
}

impl Eq for Anomaly {}

layer!(Anomaly, "ResightAnomaly");

impl Anomaly {
    /// The distance of a picture: the mean of the largest of its places.
    pub fn distance(&self, map: &[f32]) -> f32 {
        // Descending; there are few, so that insertion is cheaper than sorting everything.
        let mut largest = [0.0_f32; MAX_FARTHEST];
        let count = self.farthest.min(map.len()).clamp(1, MAX_FARTHEST);
        for &distance in map {
            if distance > largest[count - 1] {
                let at = largest[..count].partition_point(|&larger| larger >= distance);
                largest[at..count].rotate_right(1);
                largest[at] = distance;
            }
        }
        largest[..count].iter().fold(0.0, |sum: f32, &distance| sum + distance) / count as f32
    }

    fn logit(&self, map: &[f32]) -> f32 {
        // Of nothing at all the logarithm is no number.
        self.slope * libm::logf((self.distance(map) / self.threshold).max(f32::MIN_POSITIVE))
    }
}

impl Layer for Anomaly {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let map = one_input("an anomaly", inputs)?;
        let shape = map.expect(DatumType::F32)?;
        ensure!(
            matches!(*shape, [1, height, width, 1] if height > 0 && width > 0),
            "an anomaly takes a map of shape [1, height, width, 1], found {shape:?}"
        );
        ensure!(
            (1..=MAX_FARTHEST).contains(&self.farthest),
            "{} farthest places; 1 to {MAX_FARTHEST} are possible",
            self.farthest
        );
        let usable = |value: f32| value.is_normal() && value > 0.0;
        ensure!(
            usable(self.threshold) && usable(self.slope),
            "the threshold {} and the slope {} are not both positive numbers",
            self.threshold,
            self.slope
        );
        Ok(TensorFact::new(DatumType::F32, &[1, 2]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "anomaly".to_owned(), ..Description::default() })
    }

    fn work(&self, inputs: &[TensorFact]) -> TractResult<u64> {
        self.output(inputs)?;
        Ok(inputs.iter().map(|map| map.len() as u64).sum())
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("anomaly")
    }

    fn pack(&self, _: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        Ok(Box::new(Packed(self.clone())))
    }

    fn nnef_name() -> &'static str {
        "resight_anomaly"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("map"),
            TypeName::Integer.named("farthest"),
            TypeName::Scalar.named("threshold"),
            TypeName::Scalar.named("slope"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("map", input(ast, node, 0)),
            ("farthest", numeric(self.farthest)),
            ("threshold", numeric(self.threshold)),
            ("slope", numeric(self.slope)),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            farthest: integer(builder, invocation, "farthest")?,
            threshold: invocation.named_arg_as(builder, "threshold")?,
            slope: invocation.named_arg_as(builder, "slope")?,
        };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "map")?)))
    }
}

#[derive(Debug)]
struct Packed(Anomaly);

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "anomaly"
    }

    fn run(
        &self,
        _: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        let (map, output) = (inputs.slice::<f32>(0)?, output.slice::<f32>()?);
        let found = output.len();
        let [typical, other] = output else {
            return Err(KernelError::Length { what: "output", expected: 2, found });
        };
        (*typical, *other) = (0.0, self.0.logit(map));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farthest_places_decide() {
        let layer = Anomaly { farthest: 2, threshold: 2.0, slope: 3.0 };
        assert_eq!(layer.distance(&[1.0, 5.0, 0.0, 3.0]), 4.0);
        assert_eq!(layer.distance(&[3.0]), 3.0);
        assert_eq!(layer.distance(&[0.0, 0.0]), 0.0);
        assert_eq!(layer.logit(&[1.0, 3.0, 1.0]), 0.0);
        assert!((layer.logit(&[4.0, 4.0]) - 3.0 * 2.0_f32.ln()).abs() < 1e-5);
        assert!(layer.logit(&[0.0, 0.0]).is_finite());
    }
}
