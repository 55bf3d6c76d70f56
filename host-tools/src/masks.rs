//! How well masks are found: intersection over union against labels.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use image::{DynamicImage, GrayImage};
use rayon::prelude::*;
use resight_imaging::{ImageFolder, ImageView, Orientation, Placement, decode};
use resight_runtime::{Found, Head, Locator, MaskHead, Model, Target, ThreadSettings};
use serde::Serialize;

use crate::classifier::is_onnx;
use crate::float_maps::FloatMaps;
use crate::quantise::Progress;
use crate::tasks::{Decoder, MaskDecoder};

/// The label of pixels that do not count.
const IGNORED: u8 = 255;

/// How well a model finds masks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaskEvaluation {
    /// The model's file.
    pub model: String,
    /// Pictures evaluated.
    pub images: usize,
    /// Percent of the labelled pixels that have their class.
    pub pixel_accuracy: f64,
    /// Mean over the classes that are labelled or found of what is both as a share of what is either,
    /// percent.
    pub mean_iou: f64,
    /// Each of these classes.
    pub classes: Vec<ClassOverlap>,
}

/// How well a class is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassOverlap {
    /// The class, counted from 0.
    pub class: usize,
    /// Its name.
    pub name: String,
    /// Pixels that have it.
    pub pixels: u64,
    /// Pixels that are labelled and found so as a share of those that are either, percent.
    pub iou: f64,
}

/// How often each class was found where another, or itself, is: `[labelled][found]`.
#[derive(Debug, Clone, PartialEq)]
struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    fn merge(mut self, other: &Self) -> Self {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, more)| *sum += more);
        self
    }

    /// Counts the pixels of a picture. What the network was not shown does not count.
    fn add(&mut self, labels: &GrayImage, mask: &[u8], size: [usize; 2], input: [u32; 2], at: &Placement) {
        let scale = [0, 1].map(|axis| size[axis] as f32 / input[axis] as f32);
        for (x, y, label) in labels.enumerate_pixels() {
            let [label] = label.0;
            if usize::from(label) >= self.classes {
                continue;
            }
            // The middle of the pixel.
            let place = at.in_network([y as f32 + 0.5, x as f32 + 0.5]);
            let [row, column] = [0, 1].map(|axis| (place[axis] * scale[axis]).floor());
            let is_shown = row >= 0.0 && column >= 0.0 && row < size[0] as f32 && column < size[1] as f32;
            if is_shown {
                let found = mask[row as usize * size[1] + column as usize];
                self.counts[usize::from(label) * self.classes + usize::from(found)] += 1;
            }
        }
    }

    /// Pixels that have a class, that were taken for it, and both.
    fn of(&self, class: usize) -> [u64; 3] {
        let row = &self.counts[class * self.classes..][..self.classes];
        let column = self.counts.iter().skip(class).step_by(self.classes);
        [row.iter().sum(), column.sum(), row[class]]
    }
}

/// An f32 or an int8 network that finds masks.
enum AnyMask {
    Float { maps: Box<FloatMaps>, head: Arc<MaskHead>, mask: Vec<u8> },
    Int8(Box<Locator>),
}

impl AnyMask {
    /// The class of each place of the network's image, and height and width.
    fn find(&mut self, view: &ImageView<'_>) -> Result<(&[u8], [usize; 2])> {
        match self {
            Self::Int8(locator) => match locator.locate(view)? {
                Found::Mask { classes, size } => Ok((classes, size)),
                Found::Boxes(_) | Found::Points(_) => bail!("the network finds no masks"),
            },
            Self::Float { maps, head, mask } => {
                let outputs = maps.run(view)?;
                let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
                head.decode_reals(&outputs, mask)?;
                Ok((mask, head.size()))
            }
        }
    }
}

/// Runs every model over the pictures of `folder` that `annotations`, a folder of grey PNG files of the
/// same names, labels: the grey level of a pixel is its class, 255 is none. An f32 network gets preprocessing,
/// decoder and names of the first int8 model.
///
/// # Errors
/// Models that find no masks or cannot be read, labels and pictures that cannot be read or do not fit.
pub fn evaluate(
    models: &[PathBuf],
    folder: &Path,
    annotations: &Path,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Vec<MaskEvaluation>> {
    let pictures: Vec<(PathBuf, PathBuf)> = ImageFolder::read(folder)?
        .files
        .into_iter()
        .filter_map(|picture| {
            let relative = picture.strip_prefix(folder).ok()?.with_extension("png");
            let labels = annotations.join(relative);
            labels.exists().then_some((picture, labels))
        })
        .collect();
    ensure!(
        !pictures.is_empty(),
        "{}: it has no PNG file of the name of a picture in {}",
        annotations.display(),
        folder.display()
    );
    let first = models.iter().find(|path| !is_onnx(path));
    let first = first.context("an int8 model among the models says how masks are made; name one")?;
    let first = Model::load(first)?;
    models.iter().map(|path| one(path, &first, &pictures, target, progress)).collect()
}

fn head(model: &Model) -> Result<&MaskHead> {
    match model.head() {
        Head::Mask(head) => Ok(head),
        _ => bail!("{}: the network gives no masks; quantise it with `--task segment`", model.file()),
    }
}

fn one(
    path: &Path,
    first: &Model,
    pictures: &[(PathBuf, PathBuf)],
    target: &Target,
    progress: Progress<'_>,
) -> Result<MaskEvaluation> {
    let float = if is_onnx(path) {
        let of = head(first)?;
        let decoder = MaskDecoder { map: Some(of.map().to_owned()), colours: vec![] };
        let (maps, Head::Mask(head)) = FloatMaps::new(path, first, &Decoder::Mask(decoder))? else {
            bail!("{}: its decoder makes no masks", first.file());
        };
        Some((maps, Arc::new(head)))
    } else {
        None
    };
    let int8 = if float.is_none() { Some(Model::load(path)?) } else { None };
    let model = int8.as_ref().unwrap_or(first);
    let classes = match &float {
        Some((_, head)) => head.classes(),
        None => head(model)?.classes(),
    };
    let network = || -> Result<AnyMask> {
        if let Some((maps, head)) = &float {
            return Ok(AnyMask::Float { maps: Box::new(maps.fork()?), head: head.clone(), mask: vec![] });
        }
        let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
        Ok(AnyMask::Int8(Box::new(Locator::new(model, target, settings)?)))
    };
    let input = model.preprocessing().crop;
    let phase = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let done = AtomicUsize::new(0);
    progress(&phase, 0, pictures.len());
    let confusion = pictures
        .par_iter()
        .map_init(network, |network, (picture, labels)| -> Result<Confusion> {
            let network = network.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let labels = read_labels(labels, classes)?;
            let image = decode(picture)?;
            ensure!(
                image.dimensions() == labels.dimensions(),
                "{}: its labels are of another size",
                picture.display()
            );
            let view = ImageView::of(&image)?;
            let placement = model.preprocessing().placement(view.size(), Orientation::default());
            let mut confusion = Confusion::new(classes);
            let (mask, size) = network.find(&view)?;
            confusion.add(&labels, mask, size, input, &placement);
            progress(&phase, done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
            Ok(confusion)
        })
        .try_reduce(|| Confusion::new(classes), |all, more| Ok(all.merge(&more)))
        .with_context(|| format!("evaluating {}", path.display()))?;
    let name = |class: usize| model.labels().name(class).unwrap_or_default().to_owned();
    Ok(score(path.display().to_string(), pictures.len(), &confusion, &name))
}

/// Reads the labels of a picture.
fn read_labels(path: &Path, classes: usize) -> Result<GrayImage> {
    let labels = image::open(path).with_context(|| path.display().to_string())?;
    let DynamicImage::ImageLuma8(labels) = labels else {
        bail!(
            "{}: the classes of pixels are read from PNG of 8 bits of grey, a class a level; save it so (Pillow: \
             `image.convert('L')` of the array of classes)",
            path.display()
        );
    };
    let beyond = labels.iter().find(|&&label| label != IGNORED && usize::from(label) >= classes);
    if let Some(label) = beyond {
        bail!("{}: a pixel has the class {label}, the network has {classes}", path.display());
    }
    Ok(labels)
}

fn score(
    model: String,
    images: usize,
    confusion: &Confusion,
    name: &dyn Fn(usize) -> String,
) -> MaskEvaluation {
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    let class = |class: usize| {
        let [labelled, found, both] = confusion.of(class);
        let either = labelled + found - both;
        (either > 0).then(|| ClassOverlap {
            class,
            name: name(class),
            pixels: labelled,
            iou: percent(both, either),
        })
    };
    let classes: Vec<ClassOverlap> = (0..confusion.classes).filter_map(class).collect();
    let right: u64 = (0..confusion.classes).map(|class| confusion.of(class)[2]).sum();
    MaskEvaluation {
        model,
        images,
        pixel_accuracy: percent(right, confusion.counts.iter().sum()),
        mean_iou: classes.iter().map(|class| class.iou).sum::<f64>() / classes.len().max(1) as f64,
        classes,
    }
}

#[cfg(test)]
mod tests {
    use resight_imaging::{Fit, Preprocessing};

    use super::*;

    #[test]
    fn shares_are_counted_over_all_pixels_that_the_network_sees() {
        // A picture of 4 x 2 pixels in a network of 4 x 4: two rows of margin, a mask of 2 x 2.
        let preprocessing = Preprocessing { fit: Fit::Letterbox, ..Preprocessing::for_input(4, 4) };
        let placement = preprocessing.placement([2, 4], Orientation::default());
        let labels = GrayImage::from_raw(4, 2, vec![0, 0, 1, 1, 0, 255, 2, 1]).unwrap();
        let mut confusion = Confusion::new(3);
        confusion.add(&labels, &[0, 1, 0, 2], [2, 2], [4, 4], &placement);
        // The upper row is in the mask's upper one: found 0 0 1 1; the lower in the other: 0 0 2 2.
        assert_eq!(confusion.counts, [3, 0, 0, 0, 2, 1, 0, 0, 1]);
        let name = |class: usize| class.to_string();
        let score = score("m".into(), 1, &confusion, &name);
        assert!((score.pixel_accuracy - 600.0 / 7.0).abs() < 1e-9, "{score:?}");
        let ious: Vec<f64> = score.classes.iter().map(|class| class.iou).collect();
        assert_eq!(ious, [100.0, 100.0 * 2.0 / 3.0, 50.0]);
    }

    #[test]
    fn labels_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        GrayImage::from_raw(2, 1, vec![3, 255]).unwrap().save(&file).unwrap();
        assert_eq!(read_labels(&file, 4).unwrap().as_raw(), &[3, 255]);
        let error = read_labels(&file, 3).unwrap_err().to_string();
        assert!(error.ends_with("a.png: a pixel has the class 3, the network has 3"), "{error}");
        image::RgbImage::new(2, 1).save(&file).unwrap();
        let error = read_labels(&file, 4).unwrap_err().to_string();
        assert!(error.contains("are read from PNG of 8 bits of grey"), "{error}");
    }
}
