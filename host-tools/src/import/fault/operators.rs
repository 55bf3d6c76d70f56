//! Operators that are not read.

use crate::import::names::printable;

/// Why a node's operator is not read.
#[derive(Debug, thiserror::Error)]
pub enum OperatorFault {
    #[error("the file is quantised already; `resight convert` takes such files, or export the f32 model")]
    Quantised,
    #[error(
        "operators of the domain `{domain}` are not supported; export with standard ONNX operators, without a \
         runtime's own fusions",
        domain = printable(domain)
    )]
    Domain { domain: String },
    #[error("it is in training mode; export the model in evaluation mode (`model.eval()`)")]
    Training,
    #[error("a zero point for each channel is only supported for the grey levels of the image")]
    ZeroPoints,
    #[error(
        "group or instance normalisation takes mean and deviation of each picture anew, which integers with fixed \
         scales cannot; train the network with batch normalisation"
    )]
    GroupNormalisation,
    #[error(
        "layer normalisation takes mean and deviation of each position anew, which integers with fixed scales cannot; \
         use a network with batch normalisation"
    )]
    LayerNormalisation,
    #[error(
        "attention multiplies two results as matrices, which is not supported; use a convolutional network"
    )]
    Attention,
    #[error(
        "its results are random, other ones in each runtime and each run, so that the file does not say which network \
         it is; export the model with its weights, in evaluation mode"
    )]
    Random,
    #[error(
        "it divides by what it finds in each picture, which integers with fixed scales cannot; train the network with \
         batch normalisation"
    )]
    NormalisationOfPicture,
    #[error("recurrent networks are not supported; only networks that see one picture at a time are")]
    Recurrent,
    #[error(
        "it is part of a detector's choice of boxes, which the decoder of the model file makes; export the network up \
         to its raw maps, and say `--task detect`"
    )]
    ChoiceOfBoxes,
    #[error("it enlarges the image as networks that draw or segment do, which is not supported")]
    DepthToSpace,
    #[error(
        "the operator is not supported: int8 networks are made of convolutions, batch normalisation, functions of one \
         value, sums and products of results, concatenation, pooling and fully connected layers; replace it in the \
         model before the export"
    )]
    Unsupported,
}

impl OperatorFault {
    /// What an operator that is not supported is for, and what to do.
    pub(in crate::import) fn unsupported(operator: &str) -> Self {
        match operator {
            "InstanceNormalization" | "GroupNormalization" => Self::GroupNormalisation,
            "LayerNormalization"
            | "SimplifiedLayerNormalization"
            | "SkipLayerNormalization"
            | "RMSNormalization" => Self::LayerNormalisation,
            "Attention" | "MultiHeadAttention" | "GroupQueryAttention" | "Einsum" => Self::Attention,
            "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "Multinomial"
            | "Bernoulli" => Self::Random,
            "MeanVarianceNormalization" => Self::NormalisationOfPicture,
            "LSTM" | "GRU" | "RNN" | "Scan" => Self::Recurrent,
            "NonMaxSuppression" | "TopK" | "RoiAlign" => Self::ChoiceOfBoxes,
            "DepthToSpace" => Self::DepthToSpace,
            _ => Self::Unsupported,
        }
    }
}
