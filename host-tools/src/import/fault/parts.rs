//! What takes parts and puts parts together.

use crate::import::data::{Layout, shown_layout};
use crate::import::names::printable;

/// Why a border cannot be put round a result.
#[derive(Debug, thiserror::Error)]
pub enum PadFault {
    #[error(
        "its mode is `{mode}`; only zeros, reflection and the edge's values are supported",
        mode = printable(mode)
    )]
    Mode { mode: String },
    #[error("its value is no single number")]
    ValueCount,
    #[error("its value is no constant; export with constant folding")]
    ComputedValue,
    #[error("it pads with {0}; only zeros are supported")]
    Value(f32),
    #[error("its padding is missing")]
    Missing,
    #[error("its padding {padding:?} does not fit {axes} axes")]
    Count { padding: Vec<i64>, axes: usize },
    #[error("its padding {0:?} is negative; cut rows and columns off by slicing, as in `x[:, :, 1:-1]`")]
    Negative(Vec<i64>),
    #[error("its padding {0:?} is out of range")]
    Range(Vec<i64>),
    #[error("it pads {layout}: {padding:?}", layout = shown_layout(layout))]
    Axes { layout: Layout, padding: Vec<i64> },
    #[error("its padding {padding:?} in the mode `{mode}` does not fit {dims:?}")]
    Size { padding: Vec<i64>, mode: String, dims: Vec<usize> },
}

/// Why a part of a result cannot be taken, or parts not be put together.
#[derive(Debug, thiserror::Error)]
pub enum PartFault {
    #[error("its starts are missing")]
    NoStarts,
    #[error("its ends are missing")]
    NoEnds,
    #[error("its starts, ends, axes and steps differ in number")]
    SliceCounts,
    #[error(
        "it takes {start}..{end} in steps of {step} from axis {axis} of {shape:?}; only every n-th row and column \
         from the first on is supported"
    )]
    Slice { start: i64, end: i64, step: i64, axis: usize, shape: Vec<usize> },
    #[error("its indices are missing")]
    NoIndices,
    #[error(
        "it takes {indices:?} from axis {axis} of {dims:?}; only another order of the image's channels is supported"
    )]
    Gather { indices: Vec<i64>, axis: usize, dims: Vec<usize> },
    #[error(
        "it changes the order of channels of a result, or of an image that is also used as it is; only the image's \
         own channels can be exchanged, before everything else"
    )]
    ChannelOrder,
    #[error("only an image without padding can be subsampled or get channels")]
    NoPlainImage,
    #[error("widening {from} channels to {to} takes too many weights")]
    Widening { from: usize, to: usize },
    #[error("it takes {0} channels")]
    Channels(usize),
    #[error("it divides axis {axis} of {layout}; only channels can be divided", layout = shown_layout(layout))]
    SplitAxis { axis: usize, layout: Layout },
    #[error("its parts {parts:?} do not make the {size} that it divides")]
    SplitSizes { parts: Vec<usize>, size: usize },
    #[error("it has no inputs")]
    NoInputs,
    #[error("it puts {0:?} side by side; all must be images of one size, or all flat")]
    Sizes(Vec<Vec<usize>>),
    #[error(
        "it joins along axis {axis} of {layout}; only channels can be put side by side",
        layout = shown_layout(layout)
    )]
    JoinAxis { axis: usize, layout: Layout },
    #[error("it puts {dims:?} one behind the other along axis {axis}, which no detector's levels are")]
    Levels { dims: Vec<Vec<usize>>, axis: usize },
    #[error("it sums over {0} axes")]
    SumAxes(usize),
    #[error(
        "it sums over axis {axis} of {layout}; only groups of channels can be summed",
        layout = shown_layout(layout)
    )]
    SumAxis { axis: usize, layout: Layout },
    #[error("it sums nothing")]
    NoSum,
    #[error("it repeats a result, which is only supported before a multiplication")]
    Repeated,
}
