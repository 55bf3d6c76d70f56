//! Networks that end in a vector: how alike pictures are.

mod evaluate;
mod references;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use resight_imaging::{ImageFolder, ImageView, Preprocessor, RgbImage, decode};
use resight_runtime::{Embedder, Head, Model, Target, ThreadSettings, normalise};

pub use self::evaluate::{VectorEvaluation, evaluate};
pub use self::references::{Named, References};
use crate::classifier::is_onnx;
use crate::import::{Wanted, import_vector};
use crate::quantise::Progress;
use crate::readable::ReadableImages;
use crate::reference::Reference;

/// A network that turns a photograph into a vector.
pub enum VectorModel {
    /// f32, run by tract.
    Float(Box<FloatVectors>),
    /// int8, run by our kernels.
    Int8(Arc<Model>, Box<Embedder>),
}

/// An f32 network with the preprocessing of the int8 one that it is compared with.
pub struct FloatVectors {
    reference: Arc<Reference>,
    preprocessor: Preprocessor,
    normalised: bool,
}

impl VectorModel {
    /// An int8 model that was loaded.
    ///
    /// # Errors
    /// A network that gives no vectors.
    pub fn int8(model: Arc<Model>, target: &Target) -> Result<Self> {
        let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
        let embedder = Embedder::new(&model, target, settings)?;
        Ok(Self::Int8(model, Box::new(embedder)))
    }

    /// The f32 network at `path`, with the preprocessing of an int8 model.
    ///
    /// # Errors
    /// A network that ends in something else, or takes images of another size.
    pub fn float(path: &Path, int8: &Model) -> Result<Self> {
        let preprocessing = int8.preprocessing();
        let size = preprocessing.crop.map(|side| side as usize);
        let imported = import_vector(path, &Wanted { size: Some(size), ..Wanted::default() })?;
        ensure!(
            imported.graph.nodes[0].shape == [preprocessing.channels.count(), size[0], size[1]],
            "{}: its image is not of the size of {}",
            path.display(),
            int8.file()
        );
        Ok(Self::Float(Box::new(FloatVectors {
            reference: Arc::new(Reference::new(&imported, &[])?),
            preprocessor: Preprocessor::new(preprocessing)?,
            normalised: imported.normalised.unwrap_or_default(),
        })))
    }

    /// Another instance of the same network for another thread.
    ///
    /// # Errors
    /// None that the first has not had.
    pub fn fork(&self) -> Result<Self> {
        match self {
            Self::Float(model) => Ok(Self::Float(Box::new(FloatVectors {
                reference: model.reference.clone(),
                preprocessor: Preprocessor::new(model.preprocessor.preprocessing())?,
                normalised: model.normalised,
            }))),
            Self::Int8(model, embedder) => Self::int8(model.clone(), embedder.target()),
        }
    }

    /// The vector of a photograph of any size.
    ///
    /// # Errors
    /// An image that preprocessing refuses, or an error of the network.
    pub fn embed(&mut self, image: &RgbImage) -> Result<Vec<f32>> {
        let view = ImageView::of(image)?;
        Ok(match self {
            Self::Float(model) => {
                let mut input = vec![0.0; model.preprocessor.input_len()];
                model.preprocessor.normalise(&view, &mut input)?;
                let mut vector = model.reference.run(&input)?.logits().to_vec();
                if model.normalised {
                    normalise(&mut vector);
                }
                vector
            }
            Self::Int8(_, embedder) => embedder.embed(&view)?.to_vec(),
        })
    }

    /// The vectors of pictures, in their order, each of the length 1.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn directions(
        &self,
        pictures: &[PathBuf],
        name: &Path,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<f32>>> {
        let phase = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let done = AtomicUsize::new(0);
        progress(&phase, 0, pictures.len());
        // One network for each worker: running one changes its buffers.
        let direction = |model: &mut Result<Self>, picture: &PathBuf| -> Result<Vec<f32>> {
            let model = model.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let mut vector = model.embed(&decode(picture)?)?;
            normalise(&mut vector);
            progress(&phase, done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
            Ok(vector)
        };
        let vectors = pictures.par_iter().map_init(|| self.fork(), direction).collect::<Result<_>>();
        vectors.with_context(|| name.display().to_string())
    }
}

/// Whether a file is a model of a network that ends in a vector.
///
/// # Errors
/// A model file that cannot be read.
pub fn gives_vectors(path: &Path) -> Result<bool> {
    Ok(!is_onnx(path) && matches!(Model::load(path)?.head(), Head::Embedding(_)))
}

/// Pictures with what they show, by the folders that they are in.
struct Grouped {
    /// The names of the folders.
    names: Vec<String>,
    pictures: Vec<PathBuf>,
    /// The folder of each picture.
    groups: Vec<usize>,
}

impl Grouped {
    /// The pictures of a folder that has a folder of them for each thing; logs what is passed over.
    fn read(folder: &Path, strict: bool, progress: Progress<'_>) -> Result<Self> {
        let all = ImageFolder::read(folder)?.files;
        let group = |picture: &PathBuf| {
            let mut parts = picture.strip_prefix(folder).ok()?.components();
            let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
            parts.next().map(|_| first)
        };
        let checked = ReadableImages::check(&all, strict, progress)?;
        checked.sentences().iter().for_each(|sentence| log::warn!("{sentence}"));
        let mut alone = 0;
        let mut grouped = Self { names: vec![], pictures: vec![], groups: vec![] };
        for picture in checked.files {
            let Some(name) = group(&picture) else {
                alone += 1;
                continue;
            };
            let known = grouped.names.iter().position(|other| *other == name);
            let group = known.unwrap_or_else(|| {
                grouped.names.push(name);
                grouped.names.len() - 1
            });
            grouped.pictures.push(picture);
            grouped.groups.push(group);
        }
        ensure!(
            !grouped.names.is_empty(),
            "{}: a folder of pictures for each thing or person is expected in it",
            folder.display()
        );
        if alone > 0 {
            log::warn!(
                "{}: {alone} pictures are passed over, for they are in no folder in it",
                folder.display()
            );
        }
        Ok(grouped)
    }
}

/// The product of two vectors of the length 1: the cosine of the angle between them.
fn product(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
