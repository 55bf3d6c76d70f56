//! Rounded weights, in memory once for an annotation and all graphs that are built of it.

use std::ops::Deref;
use std::sync::Arc;

use tract_onnx::prelude::{Tensor, TractResult};

/// Weights of a layer in `[-127, 127]`, as its operator takes them.
#[derive(Debug, Clone, Default)]
pub struct Steps(Option<Arc<Tensor>>);

impl Steps {
    /// Weights under these dimensions.
    ///
    /// # Errors
    /// Where there are not so many.
    pub fn new(dims: &[usize], steps: &[i8]) -> TractResult<Self> {
        Ok(Self(Some(Arc::new(Tensor::from_shape(dims, steps)?))))
    }

    /// The tensor for an operator; `None` before the weights were rounded.
    pub fn tensor(&self) -> Option<Arc<Tensor>> {
        self.0.clone()
    }
}

impl Deref for Steps {
    type Target = [i8];

    fn deref(&self) -> &[i8] {
        let Some(tensor) = &self.0 else { return &[] };
        // `new` makes plain tensors of i8.
        tensor.try_as_plain_ram().and_then(|plain| plain.as_slice::<i8>()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_the_same_memory() {
        let steps = Steps::new(&[2, 1, 1, 2], &[1, -2, 3, -4]).unwrap();
        assert_eq!(*steps, [1, -2, 3, -4]);
        let tensor = steps.tensor().unwrap();
        assert_eq!(tensor.shape(), [2, 1, 1, 2]);
        assert_eq!(tensor.try_as_plain_ram().unwrap().as_slice::<i8>().unwrap().as_ptr(), steps.as_ptr());
        let refused = Steps::new(&[3], &[1, 2]).unwrap_err().to_string();
        assert!(refused.contains("must be equal to data length"), "{refused}");
        assert!(Steps::default().is_empty() && Steps::default().tensor().is_none());
    }
}
