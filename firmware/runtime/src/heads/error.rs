//! Why outputs are not what a task needs.

use resight_model_file::{Activation, DecoderError};

use crate::tensors::TensorFact;

/// Why outputs are not what a task needs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HeadError {
    /// A classifier has another number of outputs.
    #[error("a classifier has one output, this network has {0}")]
    ClassifierOutputs(usize),
    /// The output of a classifier is of another type or shape.
    #[error("a classifier gives logits, not {:?} of {:?}", .0.shape, .0.datum_type)]
    Logits(TensorFact),
    /// An inspection has another number of outputs.
    #[error("an inspection has two outputs, this network has {0}")]
    InspectionOutputs(usize),
    /// The outputs of an inspection are of another type or shape.
    #[error("an inspection gives two logits and a map of f32, not {logits} and {map}")]
    Inspection {
        /// The first.
        logits: TensorFact,
        /// The second.
        map: TensorFact,
    },
    /// The outputs of a network of vectors are of another number, type or shape.
    #[error(
        "a network of vectors has one output, a row of f32, not {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Vector(Vec<TensorFact>),
    /// What should be a map has a single place.
    #[error(
        "the output `{0}` has one place only: it says what a picture shows, not where; leave out `--task`, or export the \
         network without what averages its maps"
    )]
    OnePlace(String),
    /// The task describes more or fewer outputs than there are.
    #[error("task.json describes {described} outputs, the network has {found}")]
    Count {
        /// In the task.
        described: usize,
        /// In the network.
        found: usize,
    },
    /// An output is no int8 map.
    #[error("the output `{name}` is {found}, not an int8 map of [1, height, width, channels]")]
    NoMap {
        /// Its name.
        name: String,
        /// Its shape and type.
        found: TensorFact,
    },
    /// The steps of an output are worth nothing.
    #[error("the output `{name}` has the scale {scale} and the zero point {zero_point}")]
    Steps {
        /// Its name.
        name: String,
        /// Its scale.
        scale: f32,
        /// Its zero point.
        zero_point: i32,
    },
    /// The task names an output that there is not.
    #[error("there is no output `{name}`; there are {}; say by `--decoder` what each is for", known.join(", "))]
    Unknown {
        /// What is named.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A map has another number of channels than its use needs.
    #[error("the output `{name}` has {found} channels, expected {expected}")]
    Channels {
        /// Its name.
        name: String,
        /// How many there are.
        found: usize,
        /// How many are needed, and what for.
        expected: String,
    },
    /// Maps that belong together are of several sizes.
    #[error("the output `{name}` is of {found:?} cells, expected {expected:?} as `{other}`")]
    Size {
        /// Its name.
        name: String,
        /// `[height, width]`.
        found: [usize; 2],
        /// The other's.
        expected: [usize; 2],
        /// The other's name.
        other: String,
    },
    /// The outputs have another number of levels than the decoder.
    #[error("{names} stands for {found} maps, expected {expected}: one for each level")]
    Levels {
        /// Which outputs.
        names: String,
        /// How many maps they are.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
    /// The background is no class.
    #[error("the decoder's `background` is class {background} of {found}; there must be it and another one")]
    Background {
        /// Its number.
        background: usize,
        /// How many classes there are, the background too.
        found: usize,
    },
    /// A map of single values ends in what is made of all channels together, or the reverse.
    #[error("the output `{name}` ends in {activation}, which its use in the decoder does not take")]
    Activation {
        /// Its name.
        name: String,
        /// What it ends in.
        activation: Activation,
    },
    /// The colours are not one for each class.
    #[error("there are {found} colours for {expected} classes")]
    Colours {
        /// How many there are.
        found: usize,
        /// How many classes there are.
        expected: usize,
    },
    /// See [`DecoderError`].
    #[error(transparent)]
    Decoder(#[from] DecoderError),
}
