//! What the running program is called and consists of, for whoever shows it.

use std::fmt;
use std::sync::Arc;

use resight_model_file::Labels;
use resight_status::{RuleFacts, View};

/// Names of the model, its classes, and a camera's rules. A reload makes new ones.
#[derive(Debug)]
pub(crate) struct Names {
    /// Of the camera, where there are several.
    pub(crate) camera: Option<String>,
    pub(crate) model: String,
    /// Of the kernels.
    pub(crate) isa: &'static str,
    /// In the order of the rules.
    pub(crate) rules: Vec<RuleFacts>,
    pub(crate) labels: Labels,
    /// Red, green and blue of each class, of a network that gives masks.
    pub(crate) colours: Vec<[u8; 3]>,
    /// The two points of each link, of a network that tells things apart by them.
    pub(crate) links: Vec<[usize; 2]>,
    pub(crate) view: View,
}

impl Names {
    /// What messages of the camera begin with, where there are several.
    pub(crate) fn prefix(&self) -> Prefix<'_> {
        Prefix(self.camera.as_deref())
    }

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

/// What messages of a camera begin with: its name, if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix<'n>(pub(crate) Option<&'n str>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |camera| write!(f, "{camera}: "))
    }
}

/// Shared by everything that tells of one program.
pub(crate) type SharedNames = Arc<Names>;
