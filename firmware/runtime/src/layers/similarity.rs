//! How alike a picture is to those that a name was given to.

use std::sync::Arc;

use resight_kernels::{CacheSizes, Isa, KernelError, Parallel};
use tract_nnef::ast::Parameter;
use tract_nnef::internal::*;

use crate::direction::cosine;
use crate::layer;
use crate::layer::{Description, Layer, PackedLayer};
use crate::nnef::{input, slice, tensor, variable};
use crate::target::Target;
use crate::tensors::{Inputs, Output, TensorFact};

/// How far from 0 and 1 a similarity stays, so that its logit is finite.
const EDGE: f32 = 1e-6;

/// A logit for each reference vector, whose sigmoid is how alike the picture is to it.
///
/// Input: a vector, `[1, numbers]` of `f32`. Output: `[1, references]` of `f32`,
///
/// `log(similarity / (1 - similarity))`
///
/// where the similarity is the cosine of the angle between the vector and the reference, at least 1e-6 and
/// at most 1 - 1e-6. So the sigmoid, which is what a threshold is compared with, is the cosine itself, and
/// nothing is alike that points away.
///
/// The sums are in f64 and in order, the logarithms `libm`'s: the same bits on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Similarity {
    /// `f32` `[reference][number]`, all finite.
    pub references: Arc<Tensor>,
}

impl Eq for Similarity {}

layer!(Similarity, "ResightSimilarity");

impl Similarity {
    /// References and the numbers of each.
    fn sizes(&self, inputs: &[TensorFact]) -> TractResult<[usize; 2]> {
        let [vector] = inputs else { bail!("a similarity takes one input, found {}", inputs.len()) };
        let found = vector.expect(DatumType::F32)?;
        let &[references, numbers] = self.references.shape() else {
            bail!("references must have two dimensions, found {:?}", self.references.shape());
        };
        ensure!(references > 0 && numbers > 0, "there are {references} references of {numbers} numbers");
        ensure!(found == [1, numbers], "references of {numbers} numbers cannot be compared with {found:?}");
        let values: &[f32] = slice(&self.references)?;
        ensure!(values.iter().all(|value| value.is_finite()), "a number of a reference is not finite");
        Ok([references, numbers])
    }
}

impl Layer for Similarity {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let [references, _] = self.sizes(inputs)?;
        Ok(TensorFact::new(DatumType::F32, &[1, references]))
    }

    fn describe(&self, inputs: &[TensorFact]) -> TractResult<Description> {
        let [references, _] = self.sizes(inputs)?;
        Ok(Description { operator: format!("similarity to {references}"), ..Description::default() })
    }

    fn work(&self, inputs: &[TensorFact]) -> TractResult<u64> {
        let [references, numbers] = self.sizes(inputs)?;
        Ok((references * numbers) as u64)
    }

    fn kernel(&self, _: Isa, _: CacheSizes, inputs: &[TensorFact]) -> TractResult<&'static str> {
        self.sizes(inputs)?;
        Ok("similarity")
    }

    fn pack(&self, _: &Target, inputs: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        let [_, numbers] = self.sizes(inputs)?;
        Ok(Box::new(Packed { numbers, references: slice(&self.references)?.to_vec() }))
    }

    fn nnef_name() -> &'static str {
        "resight_similarity"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![TypeName::Scalar.tensor().named("input"), TypeName::Scalar.tensor().named("references")]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![
            ("input", input(ast, node, 0)),
            ("references", variable(ast, node, "references", &self.references)?),
        ])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let layer = Self { references: tensor(builder, invocation, "references", DatumType::F32)? };
        Ok((layer, tvec!(invocation.named_arg_as(builder, "input")?)))
    }
}

#[derive(Debug)]
struct Packed {
    numbers: usize,
    references: Vec<f32>,
}

impl PackedLayer for Packed {
    fn kernel(&self) -> &'static str {
        "similarity"
    }

    fn run(
        &self,
        _: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        let (vector, output) = (inputs.slice::<f32>(0)?, output.slice::<f32>()?);
        for (logit, reference) in output.iter_mut().zip(self.references.chunks_exact(self.numbers)) {
            // A vector with a number that is none resembles nothing.
            let cosine = cosine(vector, reference);
            let similarity = if cosine.is_nan() { EDGE } else { cosine.clamp(EDGE, 1.0 - EDGE) };
            *logit = libm::logf(similarity / (1.0 - similarity));
        }
        Ok(())
    }
}
