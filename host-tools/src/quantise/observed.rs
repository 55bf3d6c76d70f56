//! The f32 network as the passes see it: the images that it takes, and its tensors.

use std::borrow::Cow;
use std::path::Path;

use resight_imaging::{ImageView, Preprocessor, decode};

use super::error::QuantiseError;
use super::options::Options;
use super::split::{Split, Widened};
use crate::graph::{NodeId, Operator};
use crate::import::Imported;
use crate::reference::{Observation, Reference};

/// What channels are multiplied by: by node, one for each channel; none where all are 1.
pub type Factors = Vec<Vec<f64>>;

/// The f32 network with the output of every node whose float value matters: all but the input
/// and the logits.
pub struct ObservedReference {
    reference: Reference,
    /// Position of each node among the observed tensors.
    positions: Vec<Option<usize>>,
    /// What the channels of each node are multiplied by.
    pub factors: Factors,
    /// Which channels of the first layer are split.
    pub split: Option<Split>,
    /// The node of the imported network whose tensor each node has.
    pub origins: Vec<NodeId>,
    /// Whether a node's tensor is in parts.
    in_parts: Vec<bool>,
    /// Shapes of the imported network's tensors, `[channels, height, width]`.
    shapes: Vec<[usize; 3]>,
}

impl ObservedReference {
    /// # Errors
    /// A network that tract cannot run.
    pub fn new(imported: &Imported) -> Result<Self, QuantiseError> {
        let nodes = &imported.graph.nodes;
        let matters = |operator: &Operator| !matches!(operator, Operator::Input | Operator::Linear { .. });
        let mut tensors = vec![];
        let mut positions = vec![None; nodes.len()];
        for (id, node) in nodes.iter().enumerate().filter(|(_, node)| matters(&node.operator)) {
            positions[id] = Some(tensors.len());
            tensors.push(node.tensor.clone());
        }
        let factors = vec![vec![]; nodes.len()];
        Ok(Self {
            reference: Reference::new(imported, &tensors)?,
            positions,
            factors,
            split: None,
            origins: (0..nodes.len()).collect(),
            in_parts: vec![false; nodes.len()],
            shapes: nodes.iter().map(|node| node.shape).collect(),
        })
    }

    /// The same with these factors.
    #[must_use]
    pub fn with_factors(self, factors: Factors) -> Self {
        Self { factors, ..self }
    }

    /// The same for a network whose first layer is split.
    #[must_use]
    pub fn with_split(self, split: Split, widened: &Widened) -> Self {
        let origins = &widened.origins;
        Self {
            positions: origins.iter().map(|&origin| self.positions[origin]).collect(),
            factors: origins.iter().map(|&origin| self.factors[origin].clone()).collect(),
            origins: origins.iter().map(|&origin| self.origins[origin]).collect(),
            in_parts: widened.in_parts.clone(),
            shapes: origins.iter().map(|&origin| self.shapes[origin]).collect(),
            split: Some(split),
            ..self
        }
    }

    /// What a node's tensor, `[channels][positions]`, is in the imported network, where it has so many
    /// channels: without factors and parts.
    pub fn original(&self, id: NodeId, values: Vec<f32>, channels: usize) -> Vec<f32> {
        let mut values = match &self.split {
            Some(split) if self.in_parts[id] => split.sums(&values, channels),
            _ => values,
        };
        let factors = &self.factors[id];
        let positions = values.len().div_ceil(factors.len().max(1)).max(1);
        for (plane, factor) in values.chunks_mut(positions).zip(factors) {
            for value in plane {
                *value = (f64::from(*value) / factor) as f32;
            }
        }
        values
    }

    /// Whether the output of a node is observed.
    pub fn observes(&self, id: NodeId) -> bool {
        self.positions[id].is_some()
    }

    /// Runs the network on a normalised image, `[channels][height][width]`.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run<'a>(&'a self, image: &'a [f32]) -> Result<FloatValues<'a>, QuantiseError> {
        Ok(FloatValues { image, reference: self, observation: self.reference.run(image)? })
    }
}

/// What the f32 network made of one image.
pub struct FloatValues<'a> {
    image: &'a [f32],
    reference: &'a ObservedReference,
    observation: Observation,
}

impl FloatValues<'_> {
    /// The output of a node, `[channels][height][width]`. `None` for one that is not observed.
    pub fn tensor(&self, id: NodeId) -> Option<Cow<'_, [f32]>> {
        // The first node is the input.
        let values = match self.reference.positions[id] {
            None if id == 0 => self.image,
            None => return None,
            Some(position) => self.observation.tensor(position),
        };
        let factors = &self.reference.factors[id];
        let values = if factors.is_empty() {
            Cow::Borrowed(values)
        } else {
            let planes = values.chunks(values.len().div_ceil(factors.len()).max(1)).zip(factors);
            Cow::Owned(
                planes.flat_map(|(plane, factor)| plane.iter().map(|value| value * *factor as f32)).collect(),
            )
        };
        match &self.reference.split {
            Some(split) if self.reference.in_parts[id] => {
                Some(Cow::Owned(split.parts(&values, self.reference.shapes[id][0])))
            }
            _ => Some(values),
        }
    }

    /// The logits, `[classes]`.
    pub fn logits(&self) -> &[f32] {
        self.observation.logits()
    }
}

/// One image as the networks take it.
pub struct InputImage {
    /// Normalised, `[channels][height][width]`.
    pub float: Vec<f32>,
    /// Grey levels - 128, `[height][width][channels]`.
    pub quantised: Vec<i8>,
}

/// Decodes and preprocesses an image.
///
/// # Errors
/// An image that cannot be read.
pub fn load(path: &Path, options: &Options) -> Result<InputImage, QuantiseError> {
    let image = decode(path)?;
    let mut preprocessor = Preprocessor::new(&options.preprocessing)?;
    let mut float = vec![0.0; preprocessor.input_len()];
    let mut quantised = vec![0; preprocessor.input_len()];
    let view = ImageView::of(&image)?;
    preprocessor.normalise(&view, &mut float)?;
    preprocessor.quantise(&view, &mut quantised)?;
    Ok(InputImage { float, quantised })
}
