//! From an image to the vector that says what it shows.

use std::sync::Arc;

use resight_base::files::FileError;
use resight_imaging::{ImageView, Preprocessor};
use resight_kernels::Parallel;

use crate::error::RuntimeError;
use crate::heads::{Embedding, Head};
use crate::model::Model;
use crate::program::Program;
use crate::target::Target;
use crate::threads::{ThreadPool, ThreadSettings};

/// What makes vectors of images, ready for one thread of control. Once warm it allocates nothing for
/// images of one size.
pub struct Embedder {
    program: Program,
    head: Embedding,
    preprocessor: Preprocessor,
    pool: Arc<ThreadPool>,
    target: Target,
    input: Vec<i8>,
    vector: Vec<f32>,
}

impl Embedder {
    /// Compiles `model` for `target`, whose threads are those of `settings`, and makes all buffers.
    ///
    /// # Errors
    /// A network that gives something else than a vector; and see [`Model::compile`].
    pub fn new(model: &Model, target: &Target, settings: ThreadSettings) -> Result<Self, RuntimeError> {
        let Head::Embedding(head) = *model.head() else {
            let cause =
                "the network gives no vectors: give the file that `resight quantize --task embed` wrote";
            return Err(FileError::content(model.file(), cause).into());
        };
        let pool = Arc::new(ThreadPool::new(settings)?);
        let preprocessor = Preprocessor::new(model.preprocessing())?;
        let target = target.with_threads(pool.threads());
        Ok(Self {
            program: model.compile(&target)?,
            head,
            target,
            input: vec![0; preprocessor.input_len()],
            preprocessor,
            pool,
            vector: Vec::with_capacity(head.numbers()),
        })
    }

    /// What its vectors are.
    pub fn head(&self) -> Embedding {
        self.head
    }

    /// What it was compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The vector of an image of any size and format.
    ///
    /// # Errors
    /// None on an image that [`ImageView`] accepted, unless the network itself is broken.
    pub fn embed(&mut self, image: &ImageView<'_>) -> Result<&[f32], RuntimeError> {
        let Self { program, head, preprocessor, pool, input, vector, .. } = self;
        pool.install(|| {
            preprocessor.quantise_on(&**pool, image, input)?;
            head.decode(program.run(&**pool, input)?, vector)
        })?;
        Ok(&self.vector)
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
