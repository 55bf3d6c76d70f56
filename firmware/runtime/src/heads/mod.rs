//! What the outputs of a network say about an image.

mod anchors;
mod bounds;
mod boxes;
mod centernet;
mod classes;
mod embedding;
pub(crate) mod error;
mod fcos;
mod inspection;
mod maps;
mod mask;
mod point;
mod points;
mod suppression;
mod things;

use resight_model_file::{OutputMap, Task};

pub use self::bounds::{Bounds, Detection};
pub use self::boxes::{BoxHead, Detections};
pub use self::classes::{Classes, Prediction, predictions, sigmoid, softmax, top_k};
pub use self::embedding::Embedding;
pub use self::error::HeadError;
pub use self::inspection::{AnomalousArea, Inspection};
pub use self::mask::MaskHead;
pub use self::point::Point;
pub use self::points::{PointHead, Points};
use crate::tensors::TensorFact;

/// The decoder of a network's outputs, chosen by the [`Task`] of its model file.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// One logit for each class.
    Classes(Classes),
    /// Whether a picture is typical, and where it is not.
    Anomaly(Inspection),
    /// A vector whose direction says what a picture shows.
    Embedding(Embedding),
    /// The outputs as they are.
    Tensors,
    /// Maps that boxes are made of.
    Boxes(BoxHead),
    /// A map of classes.
    Mask(MaskHead),
    /// Maps of points.
    Points(PointHead),
}

impl Head {
    /// The head for a task, of a network that takes images of `[height, width]`.
    ///
    /// # Errors
    /// The outputs are not what the task needs.
    pub fn new(task: Task, outputs: &[TensorFact], input: [usize; 2]) -> Result<Self, HeadError> {
        Ok(match task {
            Task::Classes { activation } => Self::Classes(Classes::new(outputs, activation)?),
            Task::Anomaly => Self::Anomaly(Inspection::new(outputs)?),
            Task::Embedding { normalised } => Self::Embedding(Embedding::new(outputs, normalised)?),
            Task::Tensors => Self::Tensors,
            Task::Boxes { outputs: maps, decoder } => {
                Self::Boxes(BoxHead::new(maps, decoder, outputs, input)?)
            }
            Task::Mask { outputs: maps, map, colours } => {
                Self::Mask(MaskHead::new(maps, &map, colours, outputs)?)
            }
            Task::Points { outputs: maps, decoder } => {
                Self::Points(PointHead::new(maps, decoder, outputs, input)?)
            }
        })
    }

    /// The classes that the first output has logits of, if it has.
    pub fn classes(&self) -> Option<Classes> {
        match self {
            Self::Classes(classes) => Some(*classes),
            Self::Anomaly(inspection) => Some(inspection.classes()),
            Self::Embedding(_) | Self::Tensors | Self::Boxes(_) | Self::Mask(_) | Self::Points(_) => None,
        }
    }

    /// Classes that the network knows; `None` of one whose outputs are a vector or only tensors.
    pub fn class_count(&self) -> Option<usize> {
        match self {
            Self::Classes(classes) => Some(classes.len()),
            Self::Anomaly(inspection) => Some(inspection.classes().len()),
            Self::Embedding(_) | Self::Tensors => None,
            Self::Boxes(boxes) => Some(boxes.classes()),
            Self::Mask(mask) => Some(mask.classes()),
            Self::Points(points) => Some(points.points()),
        }
    }

    /// Whether it says where things are, as [`Locator`](crate::Locator) finds them.
    pub fn says_where(&self) -> bool {
        matches!(self, Self::Boxes(_) | Self::Mask(_) | Self::Points(_))
    }

    /// What the maps are; none of a head without maps.
    pub fn maps(&self) -> &[OutputMap] {
        match self {
            Self::Classes(_) | Self::Anomaly(_) | Self::Embedding(_) | Self::Tensors => &[],
            Self::Boxes(boxes) => boxes.maps(),
            Self::Mask(mask) => mask.maps(),
            Self::Points(points) => points.maps(),
        }
    }
}
