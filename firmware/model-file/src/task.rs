//! What the outputs of a network mean: the member `task.json`.

use serde::{Deserialize, Serialize};

/// What the outputs of a network mean.
///
/// A model file without the member `task.json` holds a classifier; no other is written for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// One output, `[1, classes]` of f32: a logit for each class, which has a label.
    #[default]
    Classes,
    /// Any outputs, for whoever knows what they mean. There need not be labels.
    Tensors,
}
