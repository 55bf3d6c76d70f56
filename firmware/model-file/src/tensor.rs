//! Headers of NNEF tensors.

use std::path::Path;

/// Whether a member of this name is a tensor.
pub(crate) fn is_tensor(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "dat")
}

/// Why a member is no tensor of an int8 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("a tensor shorter than its header")]
    Short,
    #[error("not an NNEF 1.0 tensor")]
    Version,
    #[error("a tensor of {0} dimensions")]
    Rank(usize),
    #[error("a tensor of a type that no int8 network has ({vendor}, {kind}, {bits} bits)")]
    Type { vendor: u16, kind: u16, bits: u32 },
    #[error("a tensor whose header does not fit its {0} bytes of data")]
    Length(usize),
}

/// Checks the 128-byte header of an NNEF tensor against the number of bytes that follow.
///
/// Only plain numbers of whole bytes are accepted: an int8 network has no others, and a
/// reader that believes the header of anything else reserves whatever memory it asks for.
pub(crate) fn check_tensor(bytes: &[u8]) -> Result<(), TensorError> {
    const HEADER: usize = 128;
    const MAX_RANK: usize = 8;
    /// Float, unsigned, quantised unsigned, quantised signed, signed.
    const NUMBERS: std::ops::RangeInclusive<u16> = 0..=4;
    const BOOL: u16 = 5;
    let Some((header, data)) = bytes.split_at_checked(HEADER) else {
        return Err(TensorError::Short);
    };
    let word = |index: usize| {
        u32::from_le_bytes([header[index], header[index + 1], header[index + 2], header[index + 3]])
    };
    let half = |index: usize| u16::from_le_bytes([header[index], header[index + 1]]);
    if header[..4] != [0x4e, 0xef, 1, 0] {
        return Err(TensorError::Version);
    }
    let (stated, rank, bits) = (word(4), word(8) as usize, word(44));
    let (kind, vendor) = (half(48), half(50));
    if rank > MAX_RANK {
        return Err(TensorError::Rank(rank));
    }
    let plain = match kind {
        BOOL => bits == 8,
        0 => matches!(bits, 16 | 32 | 64),
        kind => NUMBERS.contains(&kind) && matches!(bits, 8 | 16 | 32 | 64),
    };
    if vendor != 0 || !plain {
        return Err(TensorError::Type { vendor, kind, bits });
    }
    let size =
        (0..rank).try_fold(u64::from(bits / 8), |size, axis| size.checked_mul(word(12 + 4 * axis).into()));
    if size != Some(data.len() as u64) || u64::from(stated) != data.len() as u64 {
        return Err(TensorError::Length(data.len()));
    }
    Ok(())
}
