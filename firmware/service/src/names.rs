//! What the running program is called and consists of, for whoever shows it.

use std::sync::Arc;

use resight_model_file::Labels;
use resight_status::{RuleFacts, View};

/// Names of the model, its classes and the rules. A reload makes new ones.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) model: String,
    /// Of the kernels.
    pub(crate) isa: &'static str,
    /// In the order of the rules.
    pub(crate) rules: Vec<RuleFacts>,
    pub(crate) labels: Labels,
    pub(crate) view: View,
}

impl Names {
    /// The name of a rule; a number that none has shows as nothing.
    pub(crate) fn rule(&self, rule: usize) -> Option<&str> {
        self.rules.get(rule).map(|facts| facts.name.as_str())
    }

    /// The name of a class, or its number.
    pub(crate) fn class(&self, class: usize) -> String {
        self.labels.name(class).map_or_else(|| class.to_string(), str::to_owned)
    }
}

/// Shared by everything that tells of one program.
pub(crate) type SharedNames = Arc<Names>;
