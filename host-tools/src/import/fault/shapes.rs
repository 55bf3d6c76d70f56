//! Shapes that nodes compute, and nodes that move or drop dimensions.

use crate::import::data::{Layout, shown_layout};
use crate::import::names::shown;

/// Why a shape cannot be computed, or not be given to a result of the network.
#[derive(Debug, thiserror::Error)]
pub enum ShapeFault {
    #[error("its axes are missing")]
    NoAxes,
    #[error("its shape is missing")]
    NoShape,
    #[error("its shape is no constant; export with fixed shapes and constant folding")]
    Computed,
    #[error("its shape holds {0}, which is no size")]
    NoSize(i64),
    #[error("its range is invalid")]
    Range,
    #[error("it flattens {0:?}")]
    FlattenedRows(Vec<usize>),
    #[error("its axis is {0}; only 1 is supported")]
    FlattenAxis(i64),
    #[error(
        "it flattens {channels}x{height}x{width}; only 1x1 images can be flattened, average over all positions \
         before"
    )]
    FlattenedImage { channels: usize, height: usize, width: usize },
    #[error("it reshapes {from:?} to {to}{purpose}", to = shown(to))]
    Reshape { from: Vec<usize>, to: Vec<Option<i64>>, purpose: Purpose },
    #[error("it reshapes {from:?} to {to}, which mixes places and the numbers of a place", to = shown(to))]
    ReshapedRows { from: Vec<usize>, to: Vec<Option<i64>> },
    #[error(
        "it has no axes: it drops every dimension of 1, that of a batch of one image too; export with the axes to drop"
    )]
    SqueezeWithoutAxes,
    #[error(
        "its axes are {axes:?} of {layout}; only dimensions of 1 can be dropped, and not the batch or the channels",
        layout = shown_layout(layout)
    )]
    Squeezed { axes: Vec<i64>, layout: Layout },
    #[error("it transposes {dims:?} by {order:?}; the batch must stay first")]
    TransposedRows { dims: Vec<usize>, order: Vec<i64> },
    #[error("its perm is {0:?}; negative axes are not allowed")]
    NegativeAxes(Vec<i64>),
    #[error(
        "it transposes {layout} by {order:?}; only changes between NCHW and NHWC are supported, with the batch first",
        layout = shown_layout(layout)
    )]
    Transposed { layout: Layout, order: Vec<i64> },
}

/// What a `Reshape` that cannot be computed is for, and what to do.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum Purpose {
    #[error(
        ": group normalisation takes mean and deviation of each picture anew, which integers with fixed scales \
         cannot; train the network with batch normalisation"
    )]
    GroupNormalisation,
    #[error(": attention over positions is not supported; use a convolutional network")]
    Attention,
    #[error(
        "; only dimensions of 1 can come and go and channels be divided into groups, with a symbolic batch or batch 1"
    )]
    Other,
}
