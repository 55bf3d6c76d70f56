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

/// Number of elements of a tensor, within [`MAX_DIMENSION`] and [`MAX_ELEMENTS`].
pub(super) fn elements(dimensions: &[usize]) -> Result<usize, String> {
    let mut product = 1usize;
    for &dimension in dimensions {
        if dimension > MAX_DIMENSION {
            return Err(format!("dimension {dimension} of {dimensions:?} is above {MAX_DIMENSION}"));
        }
        product = product
            .checked_mul(dimension)
            .filter(|&p| p <= MAX_ELEMENTS)
            .ok_or_else(|| format!("a tensor {dimensions:?} has more than {MAX_ELEMENTS} elements"))?;
    }
    Ok(product)
}

/// Refuses a `[channels, height, width]` that is too large to compute with.
pub(super) fn check_activation(shape: &[usize; 3]) -> Result<(), String> {
    match elements(shape)? {
        count if count > MAX_ACTIVATIONS => {
            Err(format!("a result {shape:?} has more than {MAX_ACTIVATIONS} elements; use a smaller image"))
        }
        _ => Ok(()),
    }
}

/// Refuses a network with so many weights.
pub(super) fn check_weights(count: usize) -> Result<(), String> {
    if count > MAX_WEIGHTS {
        return Err(format!("with it the network has more than {MAX_WEIGHTS} weights; use a smaller one"));
    }
    Ok(())
}
