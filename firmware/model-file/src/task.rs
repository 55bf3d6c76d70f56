//! What the outputs of a network mean: the member `task.json`.

use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::decoder::{BoxDecoder, PointDecoder};

/// What the outputs of a network mean.
///
/// A model file without the member `task.json` holds a classifier whose classes exclude each other;
/// no other is written for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// One output, `[1, classes]` of f32: a logit for each class, which has a label.
    Classes {
        /// What makes probabilities of the logits.
        #[serde(default)]
        activation: Activation,
    },
    /// Two outputs: `[1, 2]` of f32, the logits of what is typical and of what is not, which have labels,
    /// and `[1, height, width, 1]` of f32, how far each place of the picture is from what is typical.
    Anomaly,
    /// One output, `[1, numbers]` of f32: a vector whose direction says what a picture shows. The cosine of
    /// the angle between two of them says how alike the pictures are. There are no labels.
    Embedding {
        /// Whether the network's file divides the vector by its L2 norm in the end. The output is what is
        /// before that.
        #[serde(default)]
        normalised: bool,
    },
    /// Any outputs, for whoever knows what they mean. There need not be labels.
    Tensors,
    /// Maps that a decoder makes boxes of, each of a class that has a label.
    Boxes {
        /// What the outputs are, in their order.
        outputs: Vec<OutputMap>,
        /// How boxes are made of them.
        decoder: BoxDecoder,
    },
    /// A map with a score of each class, which has a label, at each position.
    Mask {
        /// What the outputs are, in their order.
        outputs: Vec<OutputMap>,
        /// The output that is the map.
        map: String,
        /// The colour of each class, red, green and blue; none where nobody has chosen them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        colours: Vec<[u8; 3]>,
    },
    /// Heat maps of points, each of which has a label.
    Points {
        /// What the outputs are, in their order.
        outputs: Vec<OutputMap>,
        /// How points are made of them.
        decoder: PointDecoder,
    },
}

/// An output that is an int8 map, `[1, height, width, channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputMap {
    /// Its name in the network's source.
    pub name: String,
    /// `real = scale * (q - zero_point)`.
    pub scale: f32,
    /// In `[-128, 127]`.
    pub zero_point: i32,
    /// What makes probabilities of the real values; they are what is wanted where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

impl Task {
    /// What the maps are; none of a task whose outputs are none.
    pub fn outputs(&self) -> &[OutputMap] {
        match self {
            Self::Classes { .. } | Self::Anomaly | Self::Embedding { .. } | Self::Tensors => &[],
            Self::Boxes { outputs, .. } | Self::Mask { outputs, .. } | Self::Points { outputs, .. } => {
                outputs
            }
        }
    }
}

impl Default for Task {
    fn default() -> Self {
        Self::Classes { activation: Activation::default() }
    }
}
