//! From an image to what is where in it.

use std::sync::Arc;

use resight_base::files::FileError;
use resight_imaging::{ImageView, Placement, Preprocessor};
use resight_kernels::Parallel;

use crate::error::RuntimeError;
use crate::heads::{Bounds, BoxHead, Detection, Detections, Head, MaskHead};
use crate::model::Model;
use crate::program::Program;
use crate::target::Target;
use crate::threads::{ThreadPool, ThreadSettings};

/// What finds boxes or a mask in images, ready for one thread of control. Once warm it allocates
/// nothing for images of one size.
pub struct Locator {
    program: Program,
    decoding: Decoding,
    preprocessor: Preprocessor,
    pool: Arc<ThreadPool>,
    target: Target,
    input: Vec<i8>,
}

/// A head with the memory that it finds things in.
enum Decoding {
    Boxes { head: BoxHead, detections: Detections, placed: Vec<Detection> },
    Mask { head: MaskHead, mask: Vec<u8> },
}

/// What is where in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'a> {
    /// Boxes, the likeliest first, in pixels of the image that was given.
    Boxes(&'a [Detection]),
    /// The class of each position of the network's image.
    Mask {
        /// `[height][width]`.
        classes: &'a [u8],
        /// `[height, width]`.
        size: [usize; 2],
    },
}

impl Locator {
    /// Compiles `model` for `target`, whose threads are those of `settings`, and makes all buffers.
    ///
    /// # Errors
    /// A network that gives neither boxes nor masks; and see [`Model::compile`].
    pub fn new(model: &Model, target: &Target, settings: ThreadSettings) -> Result<Self, RuntimeError> {
        let decoding = match model.head() {
            Head::Boxes(head) => Decoding::Boxes {
                detections: head.memory(),
                placed: Vec::with_capacity(head.decoder().most()),
                head: head.clone(),
            },
            Head::Mask(head) => {
                let [height, width] = head.size();
                Decoding::Mask { head: head.clone(), mask: Vec::with_capacity(height * width) }
            }
            Head::Classes(_) | Head::Anomaly(_) | Head::Tensors => {
                let cause = "the network gives neither boxes nor masks: quantise it with `--task detect` or `--task segment`";
                return Err(FileError::content(model.file(), cause).into());
            }
        };
        let pool = Arc::new(ThreadPool::new(settings)?);
        let preprocessor = Preprocessor::new(model.preprocessing())?;
        let target = target.with_threads(pool.threads());
        Ok(Self {
            program: model.compile(&target)?,
            decoding,
            target,
            input: vec![0; preprocessor.input_len()],
            preprocessor,
            pool,
        })
    }

    /// What it was compiled for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The compiled network.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Boxes of at least this probability from now on, `0..=1`, whatever the model file says.
    pub fn set_threshold(&mut self, threshold: f32) {
        if let Decoding::Boxes { head, .. } = &mut self.decoding {
            *head = head.clone().with_threshold(threshold);
        }
    }

    /// What is where in an image of any size and format.
    ///
    /// # Errors
    /// None on an image that [`ImageView`] accepted, unless the network itself is broken.
    pub fn locate(&mut self, image: &ImageView<'_>) -> Result<Found<'_>, RuntimeError> {
        let placement = self.preprocessor.preprocessing().placement(image.size());
        let Self { program, pool, input, decoding, preprocessor, .. } = self;
        pool.install(|| {
            preprocessor.quantise_on(&**pool, image, input)?;
            let outputs = program.run(&**pool, input)?;
            Ok(match decoding {
                Decoding::Boxes { head, detections, placed } => {
                    head.decode(outputs, detections)?;
                    placed.clear();
                    placed.extend(detections.boxes().iter().map(|found| place(*found, &placement)));
                    Found::Boxes(placed)
                }
                Decoding::Mask { head, mask } => {
                    head.decode(outputs, mask)?;
                    Found::Mask { classes: mask, size: head.size() }
                }
            })
        })
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

/// A box of the network's image as one of the image that was given, and within it.
fn place(found: Detection, placement: &Placement) -> Detection {
    let Bounds { left, top, right, bottom } = found.bounds;
    let [top, left] = placement.in_image([top, left]);
    let [bottom, right] = placement.in_image([bottom, right]);
    let bounds = Bounds { left, top, right, bottom }.within(placement.size());
    Detection { bounds, ..found }
}
