//! What is to be an output of the network.

use crate::import::data::{Layout, NCHW, shown_layout};
use crate::import::limits::LimitFault;

/// Why a tensor is no output that can be used. The message goes on after its name.
#[derive(Debug, thiserror::Error)]
pub enum OutputFault {
    #[error(transparent)]
    Limit(#[from] LimitFault),
    #[error("is no result of the network")]
    NoResult,
    #[error(
        "is {found} where a map of {needed} is needed; export the network with its last maps as outputs",
        found = shown_layout(layout),
        needed = shown_layout(&NCHW)
    )]
    NoMap { layout: Layout },
    #[error("mixes places and the numbers of a place")]
    Mixed,
}
