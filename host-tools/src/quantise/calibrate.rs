//! Runs the f32 network over the calibration images and gathers statistics of every tensor.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use resight_base::files::FileError;
use resight_model_file::{Activation, sha256_of_file};

use super::equalise::{factors, scaled};
use super::error::QuantiseError;
use super::graph::nhwc;
use super::observed::{InputImage, ObservedReference, load};
use super::options::{Options, Progress, Rounding};
use super::pictures::PictureStatistics;
use super::statistics::TensorStatistics;
use super::{choose_split, split};

use crate::graph::{FloatGraph, NodeId};
use crate::import::Imported;

/// What the passes may look at: the images, what f32 made of them, the options.
pub struct Calibration<'a> {
    /// The images, in the order that was given.
    pub images: &'a [PathBuf],
    /// Positions in `images`, ordered by what the files hold: what depends on an order of the
    /// images follows this one, so that their names do not matter.
    pub by_content: Vec<usize>,
    /// What was chosen.
    pub options: &'a Options,
    /// Told how far each phase is.
    pub progress: Progress<'a>,
    /// The network that is quantised: the imported one, perhaps with scaled or split channels.
    pub float: FloatGraph,
    /// The f32 network.
    pub reference: ObservedReference,
    /// By [`NodeId`]; nodes that are not observed have none.
    pub statistics: Vec<Option<TensorStatistics>>,
    /// What the images are like.
    pub pictures: PictureStatistics,
    /// What makes probabilities of the logits.
    pub activation: Activation,
    /// The f32 network's logits for each image, in the order that was given; none of a network that
    /// gives maps.
    pub logits: Vec<Vec<f32>>,
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
        let digests: Vec<String> =
            images.par_iter().map(|path| sha256_of_file(path)).collect::<Result<_, FileError>>()?;
        let mut by_content: Vec<usize> = (0..images.len()).collect();
        by_content.sort_by(|&a, &b| digests[a].cmp(&digests[b]));
        let step = (images.len() / CHOOSING_IMAGES).max(1);
        let chosen: Vec<usize> = by_content.iter().copied().step_by(step).take(CHOOSING_IMAGES).collect();
        let of_chosen = |index: usize| load(&images[index], options);
        let mut reference = reference;
        let mut float = imported.graph.clone();
        if options.equalise {
            let factors = factors(&float, &reference, &chosen, &of_chosen)?;
            float = scaled(&float, &factors).unwrap_or(float);
            reference = reference.with_factors(factors);
        }
        if let Some(split) = choose_split::choose(&float, &reference, &chosen, &of_chosen, options.split)? {
            log::debug!(
                "{} channels of the first layer are split at {:.3}",
                split.channels.len(),
                split.threshold
            );
            let widened = split::widened(&float, &split);
            reference = reference.with_split(split, &widened);
            float = widened.graph;
        }
        let Gathered { statistics, pictures, mut logits } =
            gather(&float, &reference, images, options, progress)?;
        logits.sort_by_key(|&(index, _)| index);
        let logits = logits.into_iter().map(|(_, logits)| logits).collect();
        let activation = imported.activation;
        Ok(Self {
            images,
            by_content,
            options,
            progress,
            float,
            reference,
            statistics,
            pictures,
            activation,
            logits,
        })
    }

    /// The images in the order that decides which of them the network is compared on: that of
    /// what they hold, but for networks with nearest rounding, whose model files have always
    /// followed the order that was given.
    pub fn in_order(&self) -> Vec<&'a Path> {
        let images = self.images;
        match self.options.rounding {
            Rounding::Nearest => images.iter().map(PathBuf::as_path).collect(),
            Rounding::Gptq => self.by_content.iter().map(|&index| images[index].as_path()).collect(),
        }
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

/// Images that say how large channels are.
const CHOOSING_IMAGES: usize = 32;
/// One of so many images is held out, the last of each run of them.
const HELD_OUT_EVERY: usize = 5;

/// Whether the image at `index` of `count`, in the order of [`Calibration::by_content`], is left
/// out of what is fitted, and used to judge it. With fewer than five images none is.
pub fn is_held_out(index: usize, count: usize) -> bool {
    count >= HELD_OUT_EVERY && index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
}

/// What one run over the images gives.
struct Gathered {
    statistics: Vec<Option<TensorStatistics>>,
    pictures: PictureStatistics,
    /// Each with its image's index.
    logits: Vec<(usize, Vec<f32>)>,
}

fn gather(
    graph: &FloatGraph,
    reference: &ObservedReference,
    images: &[PathBuf],
    options: &Options,
    progress: Progress<'_>,
) -> Result<Gathered, QuantiseError> {
    let done = AtomicUsize::new(0);
    let is_classifier = graph.outputs.is_empty();
    let classes = if is_classifier { graph.nodes.last().map_or(0, |node| node.shape[0]) } else { 0 };
    let empty = || {
        let observed = |id: usize| id == 0 || reference.observes(id);
        let empty = |id: usize| observed(id).then(|| TensorStatistics::new(graph.nodes[id].shape[0]));
        let statistics = (0..graph.nodes.len()).map(empty).collect();
        Gathered { statistics, pictures: PictureStatistics::new(classes), logits: vec![] }
    };
    progress("calibrating", 0, images.len());
    images
        .par_iter()
        .enumerate()
        .try_fold(empty, |mut gathered, (index, path)| {
            let image = load(path, options)?;
            let values = reference.run(&image.float)?;
            for (id, statistics) in gathered.statistics.iter_mut().enumerate() {
                if let (Some(statistics), Some(tensor)) = (statistics, values.tensor(id))
                    && !statistics.add(&tensor)
                {
                    return Err(QuantiseError::NotFinite {
                        tensor: graph.nodes[id].tensor.clone(),
                        image: path.display().to_string(),
                    });
                }
            }
            progress("calibrating", done.fetch_add(1, Ordering::Relaxed) + 1, images.len());
            let logits = if is_classifier { values.logits() } else { &[] };
            gathered.pictures.add(index, &image.quantised, nhwc(graph.nodes[0].shape), logits);
            gathered.logits.push((index, logits.to_vec()));
            Ok(gathered)
        })
        .try_reduce(empty, |mut all, more| {
            for (statistics, more) in all.statistics.iter_mut().zip(more.statistics) {
                if let (Some(statistics), Some(more)) = (statistics, more) {
                    statistics.merge(more);
                }
            }
            all.pictures.merge(more.pictures);
            all.logits.extend(more.logits);
            Ok(all)
        })
}
