//! Fully connected layers, and what makes probabilities of logits.

/// Why the head of a network cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum HeadFault {
    #[error("it transposes its input (transA), which is not supported")]
    TransposedInput,
    #[error("its bias has the dimensions {dims:?} where [{outputs}] is needed")]
    Bias { dims: Vec<usize>, outputs: usize },
    #[error(
        "it multiplies two results of the network as matrices: attention is not supported; use a convolutional \
         network"
    )]
    Matrices,
    #[error("its input is an image {0:?}; flatten it before")]
    Image([usize; 3]),
    #[error("its weights {dims:?} do not fit an input of {features} features")]
    Weights { dims: Vec<usize>, features: usize },
    #[error("it is of a detector's scores, whose probabilities are made by Softmax or Sigmoid")]
    LogarithmOfScores,
    #[error("its axis is {axis} of {dims:?}, which is not that of the classes of a box")]
    AxisOfScores { axis: i64, dims: Vec<usize> },
    #[error("its axis is {0}; only the classes' axis is supported")]
    Axis(i64),
    #[error("it is not the last node; Softmax is only supported at the end")]
    SoftmaxWithin,
    #[error(
        "it is of one output, whose probability is always 1; export the network with a Sigmoid, or without both"
    )]
    SoftmaxOfOne,
    #[error("it is over one part, whose share is always 1")]
    OnePart,
    #[error(
        "it is over {parts} parts of {channels} channels; 2, 4, 8 and so on are supported, of at most {most} channels at \
         one position"
    )]
    Parts { parts: usize, channels: usize, most: usize },
    #[error(
        "it is not the last node; Sigmoid is only supported at the end of a network, as an activation train with ReLU"
    )]
    SigmoidWithin,
    #[error(
        "it is of an image of {height} x {width} (segmentation), not a probability for each class; say `--task \
         segment` or `--task detect`"
    )]
    SigmoidOfImage { height: usize, width: usize },
}
