//! One node, by what it is refused for.

use super::arithmetic::ArithmeticFault;
use super::attributes::AttributeFault;
use super::convolutions::ConvolutionFault;
use super::folding::FoldingFault;
use super::functions::FunctionFault;
use super::heads::HeadFault;
use super::inputs::InputFault;
use super::normalisation::NormalisationFault;
use super::operators::OperatorFault;
use super::parts::{PadFault, PartFault};
use super::pools::PoolFault;
use super::resizing::ResizeFault;
use super::shapes::ShapeFault;
use super::structure::StructureFault;
use super::window::WindowFault;
use crate::import::array::ArrayFault;
use crate::import::limits::LimitFault;
use crate::import::quantised::fault::QuantisedFault;
use crate::import::tflite::fault::TfliteFault;

/// Why a node is refused, and what to do about it: what follows its name and operator in the message.
#[derive(Debug, thiserror::Error)]
pub enum NodeFault {
    /// Something is larger than any network may be.
    #[error(transparent)]
    Limit(#[from] LimitFault),
    /// A constant cannot get the dimensions that it is to have, or an axis is none of a tensor's.
    #[error(transparent)]
    Array(#[from] ArrayFault),
    /// An attribute cannot be used.
    #[error(transparent)]
    Attribute(#[from] AttributeFault),
    /// An input cannot be used.
    #[error(transparent)]
    Input(#[from] InputFault),
    /// It does not fit among the other nodes.
    #[error(transparent)]
    Structure(#[from] StructureFault),
    /// Its operator is not read.
    #[error(transparent)]
    Operator(#[from] OperatorFault),
    /// A window cannot move over its input.
    #[error(transparent)]
    Window(#[from] WindowFault),
    /// A convolution cannot be computed.
    #[error(transparent)]
    Convolution(#[from] ConvolutionFault),
    /// A pool, or a mean or a maximum over axes, cannot be computed.
    #[error(transparent)]
    Pool(#[from] PoolFault),
    /// Arithmetic cannot be computed.
    #[error(transparent)]
    Arithmetic(#[from] ArithmeticFault),
    /// A function of each value cannot be computed.
    #[error(transparent)]
    Function(#[from] FunctionFault),
    /// A normalisation cannot be computed.
    #[error(transparent)]
    Normalisation(#[from] NormalisationFault),
    /// A shape cannot be computed, or not be given to its input.
    #[error(transparent)]
    Shape(#[from] ShapeFault),
    /// Its input cannot be resized.
    #[error(transparent)]
    Resize(#[from] ResizeFault),
    /// Its input cannot be padded.
    #[error(transparent)]
    Pad(#[from] PadFault),
    /// A part cannot be taken, or parts not be put together.
    #[error(transparent)]
    Part(#[from] PartFault),
    /// A fully connected layer, or what makes probabilities of logits, cannot be computed.
    #[error(transparent)]
    Head(#[from] HeadFault),
    /// No layer can be made of it, or the network cannot end in it.
    #[error(transparent)]
    Folding(#[from] FoldingFault),
    /// It is one of a quantised file whose numbers cannot be used.
    #[error(transparent)]
    Quantised(#[from] QuantisedFault),
    /// It is an operator of a TFLite file that cannot be used.
    #[error(transparent)]
    Tflite(#[from] TfliteFault),
}
