//! The network of a program, whatever it gives.

use std::sync::Arc;

use anyhow::Result;
use resight_model_file::Activation;
use resight_runtime::{
    Classifier, Detection, Inspection, Locator, Model, Point, RuntimeError, Target, ThreadPool,
    ThreadSettings,
};

/// What kind of thing a network says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// How likely each class is, by softmax or each for itself.
    Classes(Activation),
    /// Where things are.
    Boxes,
    /// What each place belongs to.
    Masks,
    /// Where each of its points is.
    Points,
}

/// What a network is run by.
pub(super) enum Network {
    /// It says which class a picture shows.
    Classes(Box<Classifier>),
    /// It says where things are.
    Places(Box<Locator>),
}

impl Network {
    /// The network of `model`, which reproduces the model's golden vectors.
    ///
    /// # Errors
    /// A network that gives tensors alone, and a board that does not compute what the model file says.
    pub(super) fn tested(model: &Model, target: &Target, settings: ThreadSettings) -> Result<Self> {
        if model.head().says_where() {
            let mut locator = Locator::new(model, target, settings)?;
            locator.self_test(model)?;
            return Ok(Self::Places(Box::new(locator)));
        }
        let mut classifier = Classifier::new(model, target, settings)?;
        classifier.self_test(model)?;
        Ok(Self::Classes(Box::new(classifier)))
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        match self {
            Self::Classes(classifier) => classifier.classes(),
            Self::Places(locator) => locator.classes(),
        }
    }

    /// The threads that compute.
    pub(super) fn threads(&self) -> Arc<ThreadPool> {
        match self {
            Self::Classes(classifier) => classifier.threads(),
            Self::Places(locator) => locator.threads(),
        }
    }

    /// What kind of thing it says.
    pub(super) fn says(&self) -> Says {
        match self {
            Self::Classes(classifier) => Says::Classes(classifier.head().activation()),
            Self::Places(_) if self.most() > 0 => Says::Boxes,
            Self::Places(locator) if locator.mask().is_some() => Says::Masks,
            Self::Places(_) => Says::Points,
        }
    }

    /// Looks at a preprocessed image: the score of each class, `0..=1`.
    pub(super) fn look(&mut self, input: &[i8], scores: &mut [f32]) -> Result<(), RuntimeError> {
        match self {
            Self::Classes(classifier) => {
                let head = classifier.head();
                scores.copy_from_slice(classifier.logits(input)?);
                head.probabilities(scores);
                Ok(())
            }
            Self::Places(locator) => locator.look(input, scores),
        }
    }

    /// What else the network says where its classes are what is typical and what is not.
    pub(super) fn inspection(&self) -> Option<Inspection> {
        match self {
            Self::Classes(classifier) => classifier.inspection(),
            Self::Places(_) => None,
        }
    }

    /// How far each place of what was looked at last is from what is typical; empty of other networks.
    pub(super) fn map(&self) -> &[f32] {
        match self {
            Self::Classes(classifier) => classifier.map(),
            Self::Places(_) => &[],
        }
    }

    /// The boxes of what was looked at last, the likeliest first, in pixels of the network's image; `None`
    /// of a network that finds none.
    pub(super) fn boxes(&self) -> Option<&[Detection]> {
        match self {
            Self::Places(locator) if locator.most() > 0 => Some(locator.boxes()),
            _ => None,
        }
    }

    /// What each place of what was looked at last belongs to, row by row, and height and width; `None` of a
    /// network that says nothing of the kind.
    pub(super) fn mask(&self) -> Option<(&[u8], [usize; 2])> {
        match self {
            Self::Places(locator) => locator.mask(),
            Self::Classes(_) => None,
        }
    }

    /// The points of what was looked at last, in pixels of the network's image; `None` of a network that
    /// finds none.
    pub(super) fn points(&self) -> Option<&[Point]> {
        match self {
            Self::Places(locator) => locator.points(),
            Self::Classes(_) => None,
        }
    }

    /// The most points of an image.
    pub(super) fn most_points(&self) -> usize {
        match self {
            Self::Classes(_) => 0,
            Self::Places(locator) => locator.most_points(),
        }
    }

    /// The most boxes of an image.
    pub(super) fn most(&self) -> usize {
        match self {
            Self::Classes(_) => 0,
            Self::Places(locator) => locator.most(),
        }
    }
}
