//! Why a network cannot be quantised.

use resight_base::files::FileError;
use resight_imaging::{Channels, ImagingError};
use resight_kernels::KernelError;
use resight_runtime::RuntimeError;
use tract_onnx::prelude::TractError;

use crate::graph::Node;
use crate::import::ImportError;
use crate::reference::ReferenceError;

/// Why a network could not be quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantiseError {
    /// The graph has no nodes.
    #[error("the network is empty")]
    Empty,
    /// The network's input is not the image that preprocessing makes.
    #[error("the network takes {channels} channels, `{}` pictures have {}", made.name(), made.count())]
    Channels {
        /// Channels that it takes.
        channels: usize,
        /// What preprocessing makes.
        made: Channels,
    },
    /// One layer does not fit the int8 arithmetic.
    #[error("layer `{layer}`: {fault}")]
    Layer {
        /// The layer.
        layer: String,
        /// Why.
        fault: LayerFault,
    },
    /// An activation became infinite or not a number.
    #[error("tensor `{tensor}` is not finite on image {image}; the f32 network itself overflows there")]
    NotFinite {
        /// The ONNX tensor.
        tensor: String,
        /// The image.
        image: String,
    },
    /// tract refused the int8 graph.
    #[error("building the int8 graph: {0}")]
    Graph(String),
    /// See [`ImportError`].
    #[error(transparent)]
    Import(#[from] ImportError),
    /// See [`ReferenceError`].
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// See [`RuntimeError`].
    #[error(transparent)]
    Network(#[from] RuntimeError),
    /// See [`ImagingError`].
    #[error(transparent)]
    Imaging(#[from] ImagingError),
    /// See [`FileError`].
    #[error(transparent)]
    File(#[from] FileError),
}

impl QuantiseError {
    #[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    pub(super) fn tract(error: TractError) -> Self {
        Self::Graph(format!("{error:#}"))
    }
}

/// Why the int8 arithmetic cannot hold a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerFault {
    /// The kernels do not take its shape.
    #[error(transparent)]
    Shape(#[from] KernelError),
    /// A convolution adds a residual that it does not have.
    #[error("the residual is missing")]
    MissingResidual,
    /// The image has a scale for each channel, a residual has one.
    #[error("the image itself cannot be a residual; put a convolution between")]
    ImageResidual,
    /// The image has a scale for each channel, another shape has other channels.
    #[error("the image itself cannot get another shape; put a convolution before")]
    ImageReshaped,
    /// The image has a scale for each channel, an average has one.
    #[error("the average must follow an int8 layer")]
    AverageOfImage,
    /// The last layer takes averages.
    #[error("the linear layer must follow the global average")]
    LinearWithoutAverage,
    /// Its accumulators overflow whatever its output covers.
    #[error("no output scale lets its accumulators fit 32 bits")]
    NoScale,
    /// A pass that must come first has not run.
    #[error("it has no {0} yet: the passes of the quantiser are in the wrong order")]
    PassOrder(&'static str),
    /// tract refused it.
    #[error("{0}")]
    Graph(String),
}

impl LayerFault {
    pub(super) fn of(self, node: &Node) -> QuantiseError {
        QuantiseError::Layer { layer: node.name.clone(), fault: self }
    }

    pub(crate) fn graph(error: &TractError) -> Self {
        Self::Graph(format!("{error:#}"))
    }
}
