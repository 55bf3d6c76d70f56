//! How large a network may be.

/// Largest ONNX file, and largest sum of external data files, in bytes.
pub const MAX_FILE_BYTES: u64 = 2 << 30;
/// Largest dimension of any tensor.
pub const MAX_DIMENSION: usize = 1 << 16;
/// Largest number of elements of a constant tensor.
pub const MAX_ELEMENTS: usize = 1 << 30;
/// Largest number of elements of the input and of any result, 256 MiB in f32.
pub const MAX_ACTIVATIONS: usize = 1 << 26;
/// Largest number of weights and other constants of all nodes together, 1 GiB in f32.
pub const MAX_WEIGHTS: usize = 1 << 28;

/// What is too large. The message goes on after the name of what it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitFault {
    #[error("dimension {dimension} of {dimensions:?} is above {MAX_DIMENSION}")]
    Dimension { dimension: usize, dimensions: Vec<usize> },
    #[error("a tensor {0:?} has more than {MAX_ELEMENTS} elements")]
    Elements(Vec<usize>),
    #[error("a result {0:?} has more than {MAX_ACTIVATIONS} elements; use a smaller image")]
    Activation([usize; 3]),
    #[error("with it the network has more than {MAX_WEIGHTS} weights; use a smaller one")]
    Weights,
}

/// Number of elements of a tensor, within [`MAX_DIMENSION`] and [`MAX_ELEMENTS`].
pub(super) fn elements(dimensions: &[usize]) -> Result<usize, LimitFault> {
    let mut product = 1usize;
    for &dimension in dimensions {
        if dimension > MAX_DIMENSION {
            return Err(LimitFault::Dimension { dimension, dimensions: dimensions.into() });
        }
        product = product
            .checked_mul(dimension)
            .filter(|&p| p <= MAX_ELEMENTS)
            .ok_or_else(|| LimitFault::Elements(dimensions.into()))?;
    }
    Ok(product)
}

/// Refuses a `[channels, height, width]` that is too large to compute with.
pub(super) fn check_activation(shape: &[usize; 3]) -> Result<(), LimitFault> {
    match elements(shape)? {
        count if count > MAX_ACTIVATIONS => Err(LimitFault::Activation(*shape)),
        _ => Ok(()),
    }
}

/// Refuses a network with so many weights.
pub(super) fn check_weights(count: usize) -> Result<(), LimitFault> {
    if count > MAX_WEIGHTS {
        return Err(LimitFault::Weights);
    }
    Ok(())
}
