//! What operations become when they are folded into layers, and how the network of these ends.

/// Why a layer cannot be made, or the network not end in it.
#[derive(Debug, thiserror::Error)]
pub enum FoldingFault {
    #[error("folding the normalisation into its weights overflows; the weights are unusable, train again")]
    Overflow,
    #[error(
        "the network must end in a plain fully connected layer (Gemm or MatMul) whose outputs are the logits; export \
         it with its classifier"
    )]
    NoClassifier,
    #[error("it takes the image itself; put a convolution before it")]
    OfImage,
    #[error(
        "the output is a map of {height} x {width} places, not a vector; export the network with the pooling that \
         makes a vector of its last map"
    )]
    Map { height: usize, width: usize },
    #[error(
        "a vector of {0} numbers is too long: at most 4096 are possible; end the network in a fully connected layer \
         of fewer"
    )]
    LongVector(usize),
    #[error("it is an output, and no more than the image itself")]
    ImageAsOutput,
    #[error("the outputs `{first}` and `{second}` are the same; leave one out")]
    SameOutputs { first: String, second: String },
}
