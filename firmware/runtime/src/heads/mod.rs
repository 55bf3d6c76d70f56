//! What the outputs of a network say about an image.

mod classes;

use resight_model_file::Task;

pub use self::classes::{Classes, Prediction, predictions, sigmoid, softmax, top_k};
use crate::tensors::TensorFact;

/// The decoder of a network's outputs, chosen by the [`Task`] of its model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// One logit for each class.
    Classes(Classes),
    /// The outputs as they are.
    Tensors,
}

impl Head {
    /// The head for a task.
    ///
    /// # Errors
    /// The outputs are not what the task needs.
    pub fn new(task: Task, outputs: &[TensorFact]) -> Result<Self, String> {
        Ok(match task {
            Task::Classes { activation } => Self::Classes(Classes::new(outputs, activation)?),
            Task::Tensors => Self::Tensors,
        })
    }
}
