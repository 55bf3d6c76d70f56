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

    /// The class of a score, and the region that it is of. The scores of all regions stand one behind
    /// the other.
    pub(crate) fn place(&self, score: usize) -> (usize, Option<&str>) {
        let classes = self.labels.len();
        if self.view.regions.is_empty() || classes == 0 {
            return (score, None);
        }
        let region = self.view.regions.get(score / classes);
        (score % classes, region.map(|region| region.name.as_str()))
    }

    /// The name of a score's class.
    pub(crate) fn label(&self, score: usize) -> Option<&str> {
        self.labels.name(self.place(score).0)
    }

    /// The name of a score's class, or its number; with its region if there are several.
    pub(crate) fn class(&self, score: usize) -> String {
        let (class, region) = self.place(score);
        let name = self.labels.name(class).map_or_else(|| class.to_string(), str::to_owned);
        region.map_or_else(|| name.clone(), |region| format!("{region}: {name}"))
    }
}

/// Shared by everything that tells of one program.
pub(crate) type SharedNames = Arc<Names>;
