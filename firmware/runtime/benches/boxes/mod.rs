//! A head that finds so many boxes, for what measures decoding.

use resight_runtime::{BoxHead, Outputs, RuntimeError};

/// `head` with the highest threshold at which it finds `count` boxes in these outputs, or with the lowest
/// where it never finds so many; and how many it finds.
pub(crate) fn finding(
    head: &BoxHead,
    outputs: Outputs<'_>,
    count: usize,
) -> Result<(BoxHead, usize), RuntimeError> {
    let mut memory = head.memory();
    let mut found = |threshold: f32| -> Result<usize, RuntimeError> {
        head.clone().with_threshold(threshold).decode(outputs, &mut memory)?;
        Ok(memory.boxes().len())
    };
    let (mut low, mut high) = (1e-6, 1.0);
    for _ in 0..24 {
        let middle = 0.5 * (low + high);
        *(if found(middle)? >= count { &mut low } else { &mut high }) = middle;
    }
    Ok((head.clone().with_threshold(low), found(low)?))
}
