//! From an image to what is where in it.

use std::sync::Arc;

use resight_base::files::FileError;
use resight_imaging::{ImageView, Orientation, Placement, Preprocessor};
use resight_kernels::Parallel;

use crate::error::RuntimeError;
use crate::heads::{Bounds, BoxHead, Detection, Detections, Head, MaskHead, Point, PointHead, Points};
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
    Points { head: PointHead, points: Points },
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
    /// Points in pixels of the image that was given: each that the network knows, in their order, or those
    /// of each of several things, the surest thing first.
    Points(&'a [Point]),
}

impl Locator {
    /// Compiles `model` for `target`, whose threads are those of `settings`, and makes all buffers.
    ///
    /// # Errors
    /// A network that gives neither boxes nor masks nor points; and see [`Model::compile`].
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
            Head::Points(head) => Decoding::Points { points: head.memory(), head: head.clone() },
            Head::Classes(_) | Head::Anomaly(_) | Head::Embedding(_) | Head::Tensors => {
                let cause = "the network gives neither boxes nor masks nor points: quantise it with `--task detect`, `--task segment` or `--task keypoints`";
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

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match &self.decoding {
            Decoding::Boxes { head, .. } => head.classes(),
            Decoding::Mask { head, .. } => head.classes(),
            Decoding::Points { head, .. } => head.points(),
        }
    }

    /// The threads that compute, for [`ThreadPool::enter`] and [`Preprocessor::quantise_on`].
    pub fn threads(&self) -> Arc<ThreadPool> {
        self.pool.clone()
    }

    /// Looks at an input that a [`Preprocessor`] for the same model has quantised, and says how much of
    /// each class there is, `0..=1`: the score of its likeliest box or point, or its share of the mask.
    ///
    /// # Errors
    /// An input of another length, `scores` that are not one for each class.
    pub fn look(&mut self, input: &[i8], scores: &mut [f32]) -> Result<(), RuntimeError> {
        if scores.len() != self.classes() {
            return Err(RuntimeError::Graph(format!(
                "there are {} classes, room for {}",
                self.classes(),
                scores.len()
            )));
        }
        let Self { program, pool, decoding, .. } = self;
        pool.install(|| {
            let outputs = program.run(&**pool, input)?;
            scores.fill(0.0);
            match decoding {
                Decoding::Boxes { head, detections, .. } => {
                    head.decode(outputs, detections)?;
                    for found in detections.boxes() {
                        scores[found.class] = scores[found.class].max(found.score);
                    }
                }
                Decoding::Mask { head, mask } => {
                    head.decode(outputs, mask)?;
                    for &class in mask.iter() {
                        scores[usize::from(class)] += 1.0;
                    }
                    let pixels = mask.len().max(1) as f32;
                    for score in scores.iter_mut() {
                        *score /= pixels;
                    }
                }
                Decoding::Points { head, points } => {
                    head.decode(outputs, points)?;
                    for point in points.points() {
                        scores[point.class] = scores[point.class].max(point.score.clamp(0.0, 1.0));
                    }
                }
            }
            Ok(())
        })
    }

    /// The boxes of what was looked at last, the likeliest first, in pixels of the network's image; none
    /// of a network that gives something else.
    pub fn boxes(&self) -> &[Detection] {
        match &self.decoding {
            Decoding::Boxes { detections, .. } => detections.boxes(),
            Decoding::Mask { .. } | Decoding::Points { .. } => &[],
        }
    }

    /// The class of each position of what was looked at last, row by row, and height and width; `None` of
    /// a network that gives something else.
    pub fn mask(&self) -> Option<(&[u8], [usize; 2])> {
        match &self.decoding {
            Decoding::Mask { head, mask } => Some((mask, head.size())),
            Decoding::Boxes { .. } | Decoding::Points { .. } => None,
        }
    }

    /// The points of what was looked at last, see [`Points::points`]; `None` of a network that gives
    /// something else.
    pub fn points(&self) -> Option<&[Point]> {
        match &self.decoding {
            Decoding::Points { points, .. } => Some(points.points()),
            Decoding::Boxes { .. } | Decoding::Mask { .. } => None,
        }
    }

    /// The most boxes of an image.
    pub fn most(&self) -> usize {
        match &self.decoding {
            Decoding::Boxes { head, .. } => head.decoder().most(),
            Decoding::Mask { .. } | Decoding::Points { .. } => 0,
        }
    }

    /// The most points of an image.
    pub fn most_points(&self) -> usize {
        match &self.decoding {
            Decoding::Points { head, .. } => head.most(),
            Decoding::Boxes { .. } | Decoding::Mask { .. } => 0,
        }
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
        let placement = self.preprocessor.preprocessing().placement(image.size(), Orientation::default());
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
                Decoding::Points { head, points } => {
                    head.decode(outputs, points)?;
                    for point in points.points_mut() {
                        point.place = placement.in_image(point.place);
                    }
                    Found::Points(points.points())
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
