//! A vector whose direction says what a picture shows.

use tract_nnef::internal::DatumType;

use super::error::HeadError;
use crate::direction::normalise;
use crate::error::RuntimeError;
use crate::program::Outputs;
use crate::tensors::TensorFact;

/// The head of a network that ends in a vector: one output, `[1, numbers]` of f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedding {
    numbers: usize,
    normalised: bool,
}

impl Embedding {
    /// The head for these outputs; `normalised` where the vector is to be divided by its L2 norm.
    ///
    /// # Errors
    /// More outputs than one, or one of another type or shape.
    pub fn new(outputs: &[TensorFact], normalised: bool) -> Result<Self, HeadError> {
        match outputs {
            [TensorFact { datum_type: DatumType::F32, shape }] if shape.len() == 2 && shape[0] == 1 => {
                Ok(Self { numbers: shape[1], normalised })
            }
            _ => Err(HeadError::Vector(outputs.to_vec())),
        }
    }

    /// How many numbers a vector has.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// Whether vectors have the length 1.
    pub fn is_normalised(&self) -> bool {
        self.normalised
    }

    /// Reads the vector of a run. Allocates nothing into a vector that was read before.
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode(&self, outputs: Outputs<'_>, vector: &mut Vec<f32>) -> Result<(), RuntimeError> {
        let output = outputs.get(0).ok_or_else(|| RuntimeError::Graph("the network has no output".into()))?;
        vector.clear();
        vector.extend_from_slice(output.slice()?);
        if self.normalised {
            normalise(vector);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_outputs_are_refused() {
        let fact = |shape: &[usize]| TensorFact::new(DatumType::F32, shape);
        assert_eq!(Embedding::new(&[fact(&[1, 7])], true).unwrap().numbers(), 7);
        let refused = |outputs: &[TensorFact]| Embedding::new(outputs, false).unwrap_err().to_string();
        assert_eq!(
            refused(&[fact(&[1, 2]), fact(&[1, 3])]),
            "a network of vectors has one output, a row of f32, not 1x2 F32, 1x3 F32"
        );
        assert_eq!(
            refused(&[TensorFact::activation([2, 3, 4])]),
            "a network of vectors has one output, a row of f32, not 1x2x3x4 I8"
        );
    }
}
