//! Pools, and means and maxima over axes.

use crate::import::data::{Layout, shown_layout};

/// Why a pool cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum PoolFault {
    #[error("it follows a Pad with zeros, which are more than negative values; pad within the MaxPool")]
    ZerosBefore,
    #[error("its padding {padding:?} is not smaller than its window {kernel:?}")]
    Padding { padding: [usize; 4], kernel: [usize; 2] },
    #[error(
        "it counts zeros of its padding, and others behind them that its ceil_mode adds not; export with \
         ceil_mode=False"
    )]
    CountedZeros,
    #[error(
        "it averages over the axes {axes:?} of {layout}; only height and width are supported (over channels it is \
         layer normalisation, over groups of them group normalisation or EvoNorm, which integers with fixed scales \
         cannot compute: train the network with batch normalisation)",
        layout = shown_layout(layout)
    )]
    MeanAxes { axes: Vec<i64>, layout: Layout },
    #[error(
        "it takes the maximum over the axes {axes:?} of {layout}; only height and width are supported",
        layout = shown_layout(layout)
    )]
    MaximumAxes { axes: Vec<i64>, layout: Layout },
}
