//! One interface for f32 networks run by tract and int8 networks run by our kernels.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use resight_imaging::{ImageView, Orientation, Preprocessing, Preprocessor, Rectangle, RgbImage, clipped};
use resight_model_file::{Activation, Labels};
use resight_runtime::{Classifier, Model, Target, ThreadSettings, sigmoid, softmax};

use crate::import::import_any;
use crate::preprocess;
use crate::reference::Reference;

/// A network that turns a photograph into logits.
pub enum AnyModel {
    /// f32, run by tract; of a quantised ONNX file with its roundings.
    Float(Box<FloatModel>),
    /// int8, run by our kernels.
    Int8(Arc<Model>, Box<Classifier>),
}

/// An f32 network with the preprocessing that [`preprocess::find`] finds for it.
pub struct FloatModel {
    reference: Arc<Reference>,
    preprocessor: Preprocessor,
    classes: usize,
    activation: Activation,
}

fn one_thread(model: &Model, target: &Target) -> Result<Classifier> {
    let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
    Ok(Classifier::new(model, target, settings)?)
}

/// Whether a file is a network that is read as ONNX, by its name: `.onnx` or `.tflite`.
pub fn is_onnx(path: &Path) -> bool {
    let is_one = |extension: &OsStr| ["onnx", "tflite"].iter().any(|one| extension.eq_ignore_ascii_case(one));
    path.extension().is_some_and(is_one)
}

impl AnyModel {
    /// Loads an `.onnx` file as f32 and anything else as an int8 model file, for `target`.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn load(path: &Path, target: &Target) -> Result<Self> {
        Self::load_sized(path, target, None)
    }

    /// As [`load`](Self::load); `size` is the image's `[height, width]` where an `.onnx` file leaves
    /// them open.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_sized(path: &Path, target: &Target, size: Option<[usize; 2]>) -> Result<Self> {
        if is_onnx(path) {
            let (imported, _) = import_any(path, size)?;
            let preprocessing = preprocess::find(&imported, path)?
                .preprocessing(&imported)
                .with_context(|| path.display().to_string())?;
            let classes = imported.graph.nodes.last().map_or(0, |node| node.shape[0]);
            let reference = Arc::new(Reference::new(&imported, &[])?);
            return Ok(Self::Float(Box::new(FloatModel {
                reference,
                preprocessor: Preprocessor::new(&preprocessing)?,
                classes,
                activation: imported.activation,
            })));
        }
        Self::int8(Model::load(path)?, target)
    }

    /// An int8 model that was loaded, for `target`.
    ///
    /// # Errors
    /// A model that is no classifier.
    pub fn int8(model: Model, target: &Target) -> Result<Self> {
        let classifier = one_thread(&model, target)?;
        Ok(Self::Int8(Arc::new(model), Box::new(classifier)))
    }

    /// Another instance of the same model for another thread.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), although what loaded once loads again.
    pub fn fork(&self) -> Result<Self> {
        Ok(match self {
            Self::Float(model) => Self::Float(Box::new(FloatModel {
                reference: model.reference.clone(),
                preprocessor: Preprocessor::new(model.preprocessor.preprocessing())?,
                classes: model.classes,
                activation: model.activation,
            })),
            Self::Int8(model, classifier) => {
                Self::Int8(model.clone(), Box::new(one_thread(model, classifier.target())?))
            }
        })
    }

    /// Whether it computes in f32.
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Float(_))
    }

    /// Gives an f32 network the preprocessing of the int8 model that it is compared with. An int8
    /// model, or a network with another input, keeps its own.
    ///
    /// # Errors
    /// Parameters out of range.
    pub fn preprocess_like(&mut self, preprocessing: &Preprocessing) -> Result<()> {
        if let Self::Float(model) = self
            && model.preprocessor.preprocessing().crop == preprocessing.crop
            && model.preprocessor.preprocessing().channels.count() == preprocessing.channels.count()
        {
            model.preprocessor = Preprocessor::new(preprocessing)?;
        }
        Ok(())
    }

    /// Gives an f32 network the activation of the int8 model that it is compared with: an ONNX
    /// file that ends in logits does not name it.
    pub fn activate_like(&mut self, classes: usize, activation: Activation) {
        if let Self::Float(model) = self
            && model.classes == classes
        {
            model.activation = activation;
        }
    }

    /// What makes probabilities of the logits.
    pub fn activation(&self) -> Activation {
        match self {
            Self::Float(model) => model.activation,
            Self::Int8(_, classifier) => classifier.head().activation(),
        }
    }

    /// The probability of each class for `logits`.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f32> {
        let mut probabilities = logits.to_vec();
        match self.activation() {
            Activation::Softmax => softmax(&mut probabilities),
            Activation::Sigmoid => sigmoid(&mut probabilities),
        }
        probabilities
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::Float(model) => model.classes,
            Self::Int8(_, classifier) => classifier.classes(),
        }
    }

    /// The name of a class; an ONNX file has only numbers.
    pub fn name(&self, class: usize) -> String {
        match self {
            Self::Float(_) => format!("class {class}"),
            Self::Int8(model, _) => model.labels().name(class).unwrap_or_default().to_owned(),
        }
    }

    /// The labels, which an ONNX file does not have.
    pub fn labels(&self) -> Option<&Labels> {
        match self {
            Self::Float(_) => None,
            Self::Int8(model, _) => Some(model.labels()),
        }
    }

    /// Where the picture before, of `size` (height and width), is least typical, in shares of it: left, top,
    /// width and height; and how far each place of the network's input is from what is typical, in
    /// thresholds, row by row. Nothing of a model that does not look for that.
    pub fn anomaly(&self, size: [u32; 2]) -> Option<(Rectangle, Vec<Vec<f32>>)> {
        let Self::Int8(model, classifier) = self else { return None };
        let inspection = classifier.inspection()?;
        let map = classifier.map();
        let area = inspection.area(map);
        let placement = model.preprocessing().placement(size, Orientation::default());
        let area = clipped(placement.rectangle([area.left, area.top, area.width, area.height]));
        Some((area, map.chunks(inspection.map()[1].max(1)).map(<[f32]>::to_vec).collect()))
    }

    /// Computes the logits of one photograph of any size.
    ///
    /// # Errors
    /// An image that preprocessing refuses, or an error of the network.
    pub fn logits(&mut self, image: &RgbImage) -> Result<Vec<f32>> {
        let view = ImageView::of(image)?;
        Ok(match self {
            Self::Float(model) => {
                let mut input = vec![0.0; model.preprocessor.input_len()];
                model.preprocessor.normalise(&view, &mut input)?;
                model.reference.run(&input)?.logits().to_vec()
            }
            Self::Int8(_, classifier) => classifier.classify(&view)?.to_vec(),
        })
    }
}
