//! Convolutions, transposed ones too.

/// Most phases of a transposed convolution: strides of 8 along both axes.
pub(in crate::import) const MAX_PHASES: usize = 64;

/// Why a convolution cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ConvolutionFault {
    #[error("its weights have the dimensions {0:?}; only two-dimensional convolutions are supported")]
    Dimensions(Vec<usize>),
    #[error("its weights are empty: {0:?}")]
    Empty(Vec<usize>),
    #[error("weights {dims:?} in {groups} groups do not fit an input of {channels} channels")]
    Groups { dims: Vec<usize>, groups: i64, channels: usize },
    #[error("its weights {0:?} do not fit one row of channels")]
    Row(Vec<usize>),
    #[error(
        "it runs over the channels in a way that changes their number; only stride 1 with padding to the same size \
         is supported"
    )]
    ChannelCount,
    #[error("a transposed convolution of a quantised file is not read; quantise the f32 network")]
    TransposedRounded,
    #[error("its weights have the dimensions {0:?}; only two-dimensional ones are supported")]
    TransposedDimensions(Vec<usize>),
    #[error("its padding follows from its output's size; export it with `pads` and `output_padding`")]
    PaddingOfOutput,
    #[error(
        "its strides are {stride:?} and its dilations {dilation:?}; {MAX_PHASES} phases at most and no dilation are \
         supported, enlarge with Resize instead"
    )]
    Phases { stride: [usize; 2], dilation: [usize; 2] },
    #[error("its padding {0:?} leaves less than a step of its output")]
    NoStep([usize; 4]),
}
