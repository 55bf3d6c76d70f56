//! A class for what a network was not taught.

use resight_kernels::{CacheSizes, Isa, KernelError, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::layer;
use crate::layer::{Description, Layer, PackedLayer};
use crate::nnef::{input, integer};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// Most of the nearest pictures that count.
const MAX_NEAREST: usize = 16;

/// One more logit, for what resembles nothing that the network was taught.
///
/// Inputs: the features `a` (`[1, features]` of `i16`), their products with the taught pictures
/// (`[1, pictures]` of `f32`, from a [`Linear`](super::Linear) layer whose rows are those pictures'
/// features at unit length), and the logits of the classes (`[1, classes]` of `f32`). Output:
/// `[1, classes + 1]` of `f32`, the logits and
///
/// `log(sum(exp(logits))) + slope * (threshold - familiarity)`
///
/// where the familiarity is the mean of the `nearest` largest products over the length of
/// `a - zero_point`: the mean cosine to the nearest taught pictures, -1 to 1. So the softmax gives
/// the last class `1 / (1 + exp(slope * (familiarity - threshold)))`, which is one half at the
/// threshold, whatever the classes say.
///
/// The length is a sum of integers, everything after it a fixed sequence of IEEE 754 operations and
/// `libm`'s functions: the same bits on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// Of the features.
    pub zero_point: i32,
    /// How many of the nearest pictures count, `1..=16`; all if there are fewer.
    pub nearest: usize,
    /// The familiarity at which a picture is as likely unknown as not.
    pub threshold: f32,
    /// How fast that changes; positive.
    pub slope: f32,
}

impl Eq for Unknown {}

layer!(Unknown, "ResightUnknown");

impl Unknown {
    /// The familiarity of a picture.
    pub fn familiarity(&self, features: &[i16], products: &[f32]) -> f32 {
        let square = |&value: &i16| i64::from(i32::from(value) - self.zero_point).pow(2);
        let length = (features.iter().map(square).sum::<i64>() as f64).sqrt();
        if length == 0.0 {
            return -1.0;
        }
        // Descending; there are few, so that insertion is cheaper than sorting everything.
        let mut best = [f32::NEG_INFINITY; MAX_NEAREST];
        let count = self.nearest.min(products.len()).clamp(1, MAX_NEAREST);
        for &product in products {
            if product > best[count - 1] {
                let at = best[..count].partition_point(|&better| better >= product);
                best[at..count].rotate_right(1);
                best[at] = product;
            }
        }
        let sum: f64 = best[..count].iter().map(|&product| f64::from(product)).sum();
        (sum / count as f64 / length) as f32
    }

    fn logit(&self, logits: &[f32], familiarity: f32) -> f32 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|&logit| libm::expf(logit - largest)).sum();
        largest + libm::logf(sum) + self.slope * (self.threshold - familiarity)
    }
}

impl Layer for Unknown {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let [features, products, logits] = inputs else {
            bail!("the unknown class takes three inputs, found {}", inputs.len())
        };
        let row = |fact: &TensorFact, datum_type: DatumType| match *fact.expect(datum_type)? {
            [1, len] if len > 0 => Ok(len),
            ref shape => bail!("the unknown class takes rows of numbers, found {shape:?}"),
        };
        row(features, DatumType::I16)?;
        row(products, DatumType::F32)?;
        let classes = row(logits, DatumType::F32)?;
        ensure!(
            (1..=MAX_NEAREST).contains(&self.nearest),
            "{} nearest pictures; 1 to {MAX_NEAREST} are possible",
            self.nearest
        );
        ensure!(
            self.zero_point.unsigned_abs() <= 1 << 15,
            "the zero point {} is out of range",
            self.zero_point
        );
        ensure!(
            self.threshold.is_finite() && self.slope.is_finite() && self.slope > 0.0,
            "the threshold {} and the slope {} are not finite, or the slope is not positive",
            self.threshold,
            self.slope
        );
        Ok(TensorFact::new(DatumType::F32, &[1, classes + 1]))
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "unknown".to_owned(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.output(inputs)?;
        Ok("unknown")
    }

    fn pack(&self, _: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        self.output(inputs)?;
        Ok(Box::new(Packed(self.clone())))
    }

    fn nnef_name() -> &'static str {
        "resight_unknown"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![
            TypeName::Scalar.tensor().named("features"),
            TypeName::Scalar.tensor().named("products"),
            TypeName::Scalar.tensor().named("logits"),
            TypeName::Integer.named("zero_point"),
            TypeName::Integer.named("nearest"),
            TypeName::Scalar.named("threshold"),
            TypeName::Scalar.named("slope"),
        ]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("features", input(ast, node, 0)),
            ("products", input(ast, node, 1)),
            ("logits", input(ast, node, 2)),
            ("zero_point", numeric(self.zero_point)),
            ("nearest", numeric(self.nearest)),
            ("threshold", numeric(self.threshold)),
            ("slope", numeric(self.slope)),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self {
            zero_point: integer(builder, invocation, "zero_point")?,
            nearest: integer(builder, invocation, "nearest")?,
            threshold: invocation.named_arg_as(builder, "threshold")?,
            slope: invocation.named_arg_as(builder, "slope")?,
        };
        let features = invocation.named_arg_as(builder, "features")?;
        let products = invocation.named_arg_as(builder, "products")?;
        let logits = invocation.named_arg_as(builder, "logits")?;
        Ok((layer, tvec!(features, products, logits)))
    }
}

#[derive(Debug)]
struct Packed(Unknown);

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "unknown"
    }

    fn run(
        &self,
        _: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        let (features, products, logits) = (inputs.slice(0)?, inputs.slice(1)?, inputs.slice::<f32>(2)?);
        let output = output.slice::<f32>()?;
        let Some((unknown, classes)) = output.split_last_mut().filter(|(_, rest)| rest.len() == logits.len())
        else {
            let (expected, found) = (logits.len() + 1, output.len());
            return Err(KernelError::Length { what: "output", expected, found });
        };
        classes.copy_from_slice(logits);
        *unknown = self.0.logit(logits, self.0.familiarity(features, products));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: Unknown = Unknown { zero_point: -2, nearest: 3, threshold: 0.5, slope: 20.0 };

    #[test]
    fn familiarity_is_the_mean_of_the_nearest() {
        // a - zero_point = (3, 4): length 5.
        let familiarity = |products: &[f32]| LAYER.familiarity(&[1, 2], products);
        assert_eq!(familiarity(&[1.0, 5.0, 2.0, 4.0, 3.0]), 0.8);
        assert_eq!(familiarity(&[5.0, 5.0, 5.0, 5.0]), 1.0);
        assert_eq!(familiarity(&[4.0]), 0.8);
        assert_eq!(LAYER.familiarity(&[-2, -2], &[0.0]), -1.0);
    }

    #[test]
    fn the_probability_depends_on_familiarity_alone() {
        for logits in [vec![1.0, 2.0, 3.0], vec![50.0, -50.0]] {
            for (familiarity, expected) in [(0.5, 0.5), (0.6, 0.119_202_92), (0.4, 0.880_797_1)] {
                let mut all = logits.clone();
                all.push(LAYER.logit(&logits, familiarity));
                crate::heads::softmax(&mut all);
                let unknown = *all.last().unwrap_or(&0.0);
                assert!((unknown - expected).abs() < 1e-5, "{logits:?} {familiarity}: {unknown}");
            }
        }
    }
}
