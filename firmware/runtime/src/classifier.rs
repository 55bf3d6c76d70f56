//! From an image to its logits.

use std::sync::Arc;

use resight_base::files::FileError;
use resight_imaging::{ImageView, Orientation, Preprocessor};
use resight_kernels::Parallel;

use crate::error::RuntimeError;
use crate::heads::{Classes, Head, Inspection};
use crate::model::Model;
use crate::program::Program;
use crate::target::Target;
use crate::threads::{ThreadPool, ThreadSettings};

/// What [`Classifier::classify`] needs, ready for one thread of control.
pub struct Classifier {
    program: Program,
    head: Classes,
    inspection: Option<Inspection>,
    preprocessor: Preprocessor,
    pool: Arc<ThreadPool>,
    target: Target,
    input: Vec<i8>,
}

impl Classifier {
    /// Compiles `model` for `target`, whose threads are those of `settings`, and makes the
    /// preprocessing buffers.
    ///
    /// # Errors
    /// A network that gives something else than classes; and see [`Model::compile`].
    pub fn new(model: &Model, target: &Target, settings: ThreadSettings) -> Result<Self, RuntimeError> {
        let Some(head) = model.head().classes() else {
            let cause = match model.head() {
                Head::Boxes(_) => "the network gives boxes, not classes: choose a model file of a classifier",
                Head::Mask(_) => "the network gives masks, not classes: choose a model file of a classifier",
                Head::Points(_) => {
                    "the network gives points, not classes: choose a model file of a classifier"
                }
                Head::Embedding(_) => {
                    "the network gives vectors, not classes: `resight references MODEL PHOTOGRAPHS -o NAME` makes \
                     classes of photographs of each"
                }
                Head::Tensors | Head::Classes(_) | Head::Anomaly(_) => {
                    "the network gives tensors, not classes: choose a model file of a classifier"
                }
            };
            return Err(FileError::content(model.file(), cause).into());
        };
        let inspection = match *model.head() {
            Head::Anomaly(inspection) => Some(inspection),
            _ => None,
        };
        let pool = Arc::new(ThreadPool::new(settings)?);
        let preprocessor = Preprocessor::new(model.preprocessing())?;
        let target = target.with_threads(pool.threads());
        Ok(Self {
            program: model.compile(&target)?,
            target,
            head,
            inspection,
            input: vec![0; preprocessor.input_len()],
            preprocessor,
            pool,
        })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.head.len()
    }

    /// What its logits mean.
    pub fn head(&self) -> Classes {
        self.head
    }

    /// What else the network says where its classes are what is typical and what is not.
    pub fn inspection(&self) -> Option<Inspection> {
        self.inspection
    }

    /// How far each place of the image before is from what is typical, `[height][width]` of the
    /// [`inspection`](Self::inspection)'s map; empty of other networks.
    pub fn map(&self) -> &[f32] {
        let map = self.inspection.and_then(|_| self.program.last().get(1));
        map.and_then(|map| map.slice().ok()).unwrap_or_default()
    }

    /// What it was compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The compiled network.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The threads that compute, for [`ThreadPool::enter`] and [`Preprocessor::quantise_on`].
    pub fn threads(&self) -> Arc<ThreadPool> {
        self.pool.clone()
    }

    /// Turns each image before the network sees it.
    pub fn set_orientation(&mut self, orientation: Orientation) {
        self.preprocessor.set_orientation(orientation);
    }

    /// The logits of an image of any size and format.
    ///
    /// # Errors
    /// None on an image that [`ImageView`] accepted, unless the network itself is broken.
    pub fn classify(&mut self, image: &ImageView<'_>) -> Result<&[f32], RuntimeError> {
        let Self { program, pool, input, preprocessor, .. } = self;
        pool.install(|| {
            preprocessor.quantise_on(&**pool, image, input)?;
            Classes::logits(program.run(&**pool, input)?)
        })
    }

    /// The logits of an input that a [`Preprocessor`] for the same model has quantised: where one is kept
    /// for each part of an image, or inputs are compared before.
    ///
    /// # Errors
    /// An input of another length than [`Preprocessor::input_len`].
    pub fn logits(&mut self, input: &[i8]) -> Result<&[f32], RuntimeError> {
        let Self { program, pool, .. } = self;
        pool.install(|| Classes::logits(program.run(&**pool, input)?))
    }

    /// Runs the golden vectors of `model`, which it was made from.
    ///
    /// # Errors
    /// See [`Model::self_test`].
    pub fn self_test(&mut self, model: &Model) -> Result<(), RuntimeError> {
        let Self { program, pool, .. } = self;
        pool.install(|| model.self_test(program, &**pool))
    }
}
