//! Windows of convolutions and pools.

use crate::import::names::printable;

/// Why a window cannot move over the image.
#[derive(Debug, thiserror::Error)]
pub enum WindowFault {
    #[error("its kernel_shape is missing")]
    NoKernel,
    #[error("its kernel_shape {stated:?} does not fit its weights' {kernel:?}")]
    Kernel { stated: Option<[usize; 2]>, kernel: [usize; 2] },
    #[error("its auto_pad is `{how}`, which is unknown", how = printable(how))]
    AutomaticPadding { how: String },
    #[error("its window spans {span:?} positions, more than the image of {image:?} with its padding")]
    Span { span: [usize; 2], image: [usize; 2] },
    #[error("its dilation is {0:?}; only 1 is supported")]
    Dilation([usize; 2]),
}
