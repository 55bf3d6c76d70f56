//! Normalisation: of batches, by norms, and of neighbouring channels.

use crate::import::data::{Layout, shown_layout};

/// What no norm is below, in networks that guard against dividing by zero.
pub(in crate::import) const LEAST_NORM: f32 = 1e-3;

/// Most channels of a local response normalisation: the sum over neighbours is a matrix of all of them.
pub(in crate::import) const MAX_CHANNELS: usize = 1 << 11;

/// Why a normalisation cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum NormalisationFault {
    #[error("it normalises each position on its own (spatial=0); only spatial=1 is supported")]
    Spatial,
    #[error("the variance of channel {channel} is {variance}, not positive")]
    Variance { channel: usize, variance: f32 },
    #[error("it divides by the norm with p={0}; only p=2 is supported")]
    Power(i64),
    #[error("it drops the dimension; only the norm over channels with keepdims=1 is supported")]
    DroppedDimension,
    #[error("it limits a norm; only a least norm of up to {LEAST_NORM} is supported")]
    LimitedNorm,
    #[error("it divides by the norm of another result, which is not supported")]
    NormOfAnother,
    #[error(
        "it takes the norm over the axes {axes:?} of {layout}; only that over the channels is supported",
        layout = shown_layout(layout)
    )]
    NormAxes { axes: Vec<usize>, layout: Layout },
    #[error("its attribute `{name}` is {value}, not above 0")]
    NotPositive { name: &'static str, value: f32 },
    #[error("its attribute `size` is missing")]
    NoSize,
    #[error("it follows a Pad, which can only be folded into a convolution")]
    PadBefore,
    #[error("its attribute `size` is {0}; 1 to {most} neighbours are supported", most = 2 * MAX_CHANNELS)]
    Neighbours(i64),
    #[error("it is over neighbours among {0} channels; up to {MAX_CHANNELS} are supported")]
    Channels(usize),
}
