//! Runs the f32 network over the calibration images and gathers statistics of every tensor.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use resight_imaging::{ImageView, Preprocessor, decode};

use super::error::QuantiseError;
use super::options::{Options, Progress};
use super::statistics::TensorStatistics;

use crate::graph::{FloatGraph, NodeId, Operator};
use crate::import::Imported;
use crate::reference::{Observation, Reference};

/// What the passes may look at: the images, what f32 made of them, the options.
pub struct Calibration<'a> {
    /// The images, in the order that was given.
    pub images: &'a [PathBuf],
    /// What was chosen.
    pub options: &'a Options,
    /// Told how far each phase is.
    pub progress: Progress<'a>,
    /// The f32 network.
    pub reference: ObservedReference,
    /// By [`NodeId`]; nodes that are not observed have none.
    pub statistics: Vec<Option<TensorStatistics>>,
}

impl<'a> Calibration<'a> {
    /// Gathers the statistics of `images`.
    ///
    /// # Errors
    /// Images that cannot be read, a network that overflows on one.
    pub fn new(
        imported: &Imported,
        images: &'a [PathBuf],
        options: &'a Options,
        progress: Progress<'a>,
    ) -> Result<Self, QuantiseError> {
        let reference = ObservedReference::new(imported)?;
        let statistics = gather(&imported.graph, &reference, images, options, progress)?;
        Ok(Self { images, options, progress, reference, statistics })
    }

    /// Mean of each channel of a node's output in f32; `None` for one that is not observed.
    pub fn means(&self, id: NodeId) -> Option<Vec<f64>> {
        self.statistics[id].as_ref().map(TensorStatistics::means)
    }

    /// Decodes and preprocesses an image.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn load(&self, path: &Path) -> Result<InputImage, QuantiseError> {
        load(path, self.options)
    }
}

/// The f32 network with the output of every node whose float value matters: all but the input
/// and the logits.
pub struct ObservedReference {
    reference: Reference,
    /// Position of each node among the observed tensors.
    positions: Vec<Option<usize>>,
}

impl ObservedReference {
    fn new(imported: &Imported) -> Result<Self, QuantiseError> {
        let nodes = &imported.graph.nodes;
        let matters = |operator: &Operator| !matches!(operator, Operator::Input | Operator::Linear { .. });
        let mut tensors = vec![];
        let mut positions = vec![None; nodes.len()];
        for (id, node) in nodes.iter().enumerate().filter(|(_, node)| matters(&node.operator)) {
            positions[id] = Some(tensors.len());
            tensors.push(node.tensor.clone());
        }
        Ok(Self { reference: Reference::new(imported, &tensors)?, positions })
    }

    /// Runs the network on a normalised image, `[channels][height][width]`.
    ///
    /// # Errors
    /// Where tract fails.
    pub fn run<'a>(&'a self, image: &'a [f32]) -> Result<FloatValues<'a>, QuantiseError> {
        Ok(FloatValues { image, positions: &self.positions, observation: self.reference.run(image)? })
    }
}

/// What the f32 network made of one image.
pub struct FloatValues<'a> {
    image: &'a [f32],
    positions: &'a [Option<usize>],
    observation: Observation,
}

impl FloatValues<'_> {
    /// The output of a node, `[channels][height][width]`. `None` for one that is not observed.
    pub fn tensor(&self, id: NodeId) -> Option<&[f32]> {
        // The first node is the input.
        match self.positions[id] {
            None => (id == 0).then_some(self.image),
            Some(position) => Some(self.observation.tensor(position)),
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

fn load(path: &Path, options: &Options) -> Result<InputImage, QuantiseError> {
    let image = decode(path)?;
    let mut preprocessor = Preprocessor::new(&options.preprocessing)?;
    let mut float = vec![0.0; preprocessor.input_len()];
    let mut quantised = vec![0; preprocessor.input_len()];
    let view = ImageView::of(&image)?;
    preprocessor.normalise(&view, &mut float)?;
    preprocessor.quantise(&view, &mut quantised)?;
    Ok(InputImage { float, quantised })
}

fn gather(
    graph: &FloatGraph,
    reference: &ObservedReference,
    images: &[PathBuf],
    options: &Options,
    progress: Progress<'_>,
) -> Result<Vec<Option<TensorStatistics>>, QuantiseError> {
    let done = AtomicUsize::new(0);
    let empty = || -> Vec<Option<TensorStatistics>> {
        let observed = |id: usize| id == 0 || reference.positions[id].is_some();
        let empty = |id: usize| observed(id).then(|| TensorStatistics::new(graph.nodes[id].shape[0]));
        (0..graph.nodes.len()).map(empty).collect()
    };
    progress("calibrating", 0, images.len());
    images
        .par_iter()
        .try_fold(empty, |mut statistics, path| {
            let image = load(path, options)?;
            let values = reference.run(&image.float)?;
            for (id, statistics) in statistics.iter_mut().enumerate() {
                if let (Some(statistics), Some(tensor)) = (statistics, values.tensor(id))
                    && !statistics.add(tensor)
                {
                    return Err(QuantiseError::NotFinite {
                        tensor: graph.nodes[id].tensor.clone(),
                        image: path.display().to_string(),
                    });
                }
            }
            progress("calibrating", done.fetch_add(1, Ordering::Relaxed) + 1, images.len());
            Ok(statistics)
        })
        .try_reduce(empty, |mut all, more| {
            for (statistics, more) in all.iter_mut().zip(more) {
                if let (Some(statistics), Some(more)) = (statistics, more) {
                    statistics.merge(more);
                }
            }
            Ok(all)
        })
}
