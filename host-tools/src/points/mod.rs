//! How well points are found: PCK and COCO's AP against labels, of f32 and int8 networks alike.

pub mod coco;
pub mod similarity;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use image::RgbImage;
use rayon::prelude::*;
use resight_imaging::{ImageView, Orientation, decode};
use resight_runtime::{Bounds, Found, Head, Locator, Model, Point, PointHead, Target, ThreadSettings};
use serde::Serialize;

use self::coco::LabelledThing;
use self::similarity::{correct, similarity};
use crate::boxes::annotations::TruthKind;
use crate::boxes::average_precision::{Compared, OVERLAPS, precision};
use crate::classifier::is_onnx;
use crate::float_maps::FloatMaps;
use crate::quantise::Progress;
use crate::tasks::Decoder;

/// How much larger than a thing's box the part of the picture is that the network sees, as where such
/// networks are trained.
const MARGIN: f32 = 1.25;

/// How well a model finds points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointEvaluation {
    /// The model's file.
    pub model: String,
    /// Things whose points are labelled.
    pub things: usize,
    /// Labelled points that are found within a fifth of the larger side of the thing's box, percent.
    pub pck: f64,
    /// COCO's average precision of key points at a similarity of 0.5, percent; nothing of other points
    /// than COCO's 17 of a person.
    pub ap_50: Option<f64>,
    /// The mean over the similarities 0.5, 0.55, to 0.95.
    pub ap_50_95: Option<f64>,
    /// Each point.
    pub points: Vec<PointAccuracy>,
}

/// How well a point is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointAccuracy {
    /// The point, counted from 0.
    pub point: usize,
    /// Its name.
    pub name: String,
    /// How often it is labelled.
    pub labelled: usize,
    /// How many of these are found, percent.
    pub pck: f64,
}

/// An f32 or an int8 network that finds points.
enum AnyPoints {
    Float { maps: Box<FloatMaps>, head: Arc<PointHead> },
    Int8(Box<Locator>),
}

impl AnyPoints {
    fn find(&mut self, image: &RgbImage) -> Result<Vec<Point>> {
        let view = ImageView::of(image)?;
        match self {
            Self::Int8(locator) => match locator.locate(&view)? {
                Found::Points(points) => Ok(points.to_vec()),
                Found::Boxes(_) | Found::Mask { .. } => bail!("the network finds no points"),
            },
            Self::Float { maps, head } => {
                let outputs = maps.run(&view)?;
                let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
                let mut points = head.memory();
                head.decode_reals(&outputs, &mut points)?;
                let preprocessing = maps.preprocessor().preprocessing();
                let placement = preprocessing.placement(view.size(), Orientation::default());
                let mut points = points.points().to_vec();
                for point in &mut points {
                    point.place = placement.in_image(point.place);
                }
                Ok(points)
            }
        }
    }
}

/// The points of a thing that was found, one for each that the network knows.
type FoundThing = Vec<Option<Point>>;

/// What is labelled in a picture, and what was found.
struct Picture<'t> {
    things: Vec<&'t LabelledThing>,
    found: Vec<FoundThing>,
    /// Whether each thing was looked at by itself, so that what was found is known to be its.
    is_one_by_one: bool,
}

impl Picture<'_> {
    /// What was found of each thing, nothing twice: the one with the most right points first.
    fn of_things(&self) -> Vec<Option<&FoundThing>> {
        if self.is_one_by_one {
            return self.found.iter().map(Some).collect();
        }
        let right = |thing: &LabelledThing, found: &FoundThing| {
            correct(found, thing).into_iter().flatten().filter(|is_right| *is_right).count()
        };
        let mut pairs: Vec<(usize, usize, usize)> = vec![];
        for (number, thing) in self.things.iter().enumerate() {
            let of = self.found.iter().enumerate().map(|(index, found)| (right(thing, found), number, index));
            pairs.extend(of);
        }
        pairs.sort_by_key(|&(right, number, index)| (Reverse(right), number, index));
        let (mut taken, mut of) = (vec![false; self.found.len()], vec![None; self.things.len()]);
        for (_, number, index) in pairs {
            if of[number].is_none() && !taken[index] {
                taken[index] = true;
                of[number] = Some(&self.found[index]);
            }
        }
        of
    }
}

/// Points by the things that have them.
fn things_of(points: &[Point], classes: usize) -> Vec<FoundThing> {
    let count = points.iter().map(|point| point.thing + 1).max().unwrap_or(0);
    let mut things = vec![vec![None; classes]; count];
    for point in points {
        if let Some(place) = things.get_mut(point.thing).and_then(|thing| thing.get_mut(point.class)) {
            *place = Some(*point);
        }
    }
    things
}

/// Runs every model over the things that COCO's `annotations` label: each by itself, the part of the
/// picture round its box, or whole pictures where the network sees several things at once. An f32 network gets preprocessing, decoder and names of the first int8 model.
///
/// # Errors
/// Models that find no points or cannot be read, labels that do not fit, pictures that cannot be read.
pub fn evaluate(
    models: &[PathBuf],
    folder: &Path,
    annotations: &Path,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Vec<PointEvaluation>> {
    let first = models.iter().find(|path| !is_onnx(path));
    let first = first.context("an int8 model among the models says how points are made; name one")?;
    let first = Model::load(first)?;
    let things = coco::read(annotations, folder, head(&first)?.points())?;
    models.iter().map(|path| one(path, &first, &things, target, progress)).collect()
}

fn head(model: &Model) -> Result<&PointHead> {
    match model.head() {
        Head::Points(head) => Ok(head),
        _ => bail!("{}: the network finds no points; quantise it with `--task keypoints`", model.file()),
    }
}

fn one(
    path: &Path,
    first: &Model,
    things: &[LabelledThing],
    target: &Target,
    progress: Progress<'_>,
) -> Result<PointEvaluation> {
    let phase = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let done = AtomicUsize::new(0);
    let all = things.len();
    progress(&phase, 0, all);
    let float = if is_onnx(path) {
        let decoder = Decoder::Points(head(first)?.decoder().clone());
        let (maps, Head::Points(head)) = FloatMaps::new(path, first, &decoder)? else {
            bail!("{}: its decoder makes no points", first.file());
        };
        Some((maps, Arc::new(head)))
    } else {
        None
    };
    let int8 = if float.is_none() { Some(Model::load(path)?) } else { None };
    let network = || -> Result<AnyPoints> {
        if let Some((maps, head)) = &float {
            return Ok(AnyPoints::Float { maps: Box::new(maps.fork()?), head: head.clone() });
        }
        let model = int8.as_ref().context("an int8 model was loaded above")?;
        head(model)?;
        let settings = ThreadSettings { threads: Some(std::num::NonZeroUsize::MIN), pin: false };
        Ok(AnyPoints::Int8(Box::new(Locator::new(model, target, settings)?)))
    };
    let [height, width] = first.preprocessing().crop;
    let classes = head(first)?.points();
    let is_one_by_one = head(first)?.decoder().fields.is_none();
    let mut pictures: BTreeMap<&Path, Vec<&LabelledThing>> = BTreeMap::new();
    for thing in things {
        pictures.entry(&thing.picture).or_default().push(thing);
    }
    let pictures: Vec<(&Path, Vec<&LabelledThing>)> = pictures.into_iter().collect();
    let pictures: Vec<Picture<'_>> = pictures
        .into_par_iter()
        .map_init(network, |network, (path, things)| -> Result<Picture<'_>> {
            let network = network.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let picture = decode(path)?;
            let mut found = vec![];
            if !is_one_by_one {
                found = things_of(&network.find(&picture)?, classes);
            }
            for thing in things.iter().filter(|_| is_one_by_one) {
                let (part, [top, left]) = part(&picture, thing.bounds, [height, width]);
                let mut points = network.find(&part)?;
                for point in &mut points {
                    point.place = [point.place[0] + top, point.place[1] + left];
                }
                found.push(points.into_iter().map(Some).collect());
            }
            let looked = done.fetch_add(things.len(), Ordering::Relaxed) + things.len();
            progress(&phase, looked, all);
            Ok(Picture { things, found, is_one_by_one })
        })
        .collect::<Result<_>>()
        .with_context(|| format!("evaluating {}", path.display()))?;
    let names = int8.as_ref().unwrap_or(first).labels();
    let name = |point: usize| names.name(point).unwrap_or_default().to_owned();
    Ok(score(path.display().to_string(), name, &pictures))
}

/// The part of a picture round a box, a quarter larger and in the proportions of the network's image,
/// black where there is no picture; and where its upper left corner is.
fn part(picture: &RgbImage, bounds: Bounds, [height, width]: [u32; 2]) -> (RgbImage, [f32; 2]) {
    let [down, right] = [bounds.bottom - bounds.top, bounds.right - bounds.left];
    let scale = (down / height as f32).max(right / width as f32).max(f32::MIN_POSITIVE) * MARGIN;
    let most = picture.width().max(picture.height()) as f32 * 2.0;
    let [rows, columns] = [height, width].map(|side| (side as f32 * scale).clamp(1.0, most).round());
    let middle = [bounds.top + down / 2.0, bounds.left + right / 2.0];
    let corner = [(middle[0] - rows / 2.0).floor(), (middle[1] - columns / 2.0).floor()];
    let mut part = RgbImage::new(columns as u32, rows as u32);
    image::imageops::replace(&mut part, picture, -(corner[1] as i64), -(corner[0] as i64));
    (part, corner)
}

fn score(model: String, name: impl Fn(usize) -> String, pictures: &[Picture<'_>]) -> PointEvaluation {
    let hits: Vec<Vec<Option<bool>>> = pictures
        .iter()
        .flat_map(|picture| picture.things.iter().zip(picture.of_things()))
        .map(|(thing, found)| {
            let nothing = vec![None; thing.points.len()];
            correct(found.unwrap_or(&nothing), thing)
        })
        .collect();
    let percent = |right: usize, of: usize| 100.0 * right as f64 / of.max(1) as f64;
    let count = hits.first().map_or(0, Vec::len);
    let of = |point: usize| hits.iter().filter_map(move |hits| hits.get(point).copied().flatten());
    let accuracy = |point: usize| {
        let labelled = of(point).count();
        let right = of(point).filter(|is_right| *is_right).count();
        PointAccuracy { point, name: name(point), labelled, pck: percent(right, labelled) }
    };
    let all: Vec<bool> = (0..count).flat_map(of).collect();
    let precision = average_precision(pictures);
    let mean = |values: [f64; OVERLAPS]| values.iter().sum::<f64>() / OVERLAPS as f64;
    PointEvaluation {
        model,
        things: hits.len(),
        pck: percent(all.iter().filter(|is_right| **is_right).count(), all.len()),
        ap_50: precision.map(|values| 100.0 * values[0]),
        ap_50_95: precision.map(|values| 100.0 * mean(values)),
        points: (0..count).map(accuracy).collect(),
    }
}

/// COCO's average precision: things of a picture may be taken for each other.
fn average_precision(pictures: &[Picture<'_>]) -> Option<[f64; OVERLAPS]> {
    let mean = |points: &FoundThing| {
        let scores = || points.iter().flatten().map(|point| point.score);
        scores().sum::<f32>() / scores().count().max(1) as f32
    };
    let mut compared = vec![];
    for Picture { things, found, .. } in pictures {
        let mut ranked: Vec<(f32, &FoundThing)> = found.iter().map(|found| (mean(found), found)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let similar = |&(_, found): &(f32, &FoundThing)| -> Option<Vec<f64>> {
            things.iter().map(|thing| similarity(found, thing)).collect()
        };
        compared.push(Compared {
            overlaps: ranked.iter().map(similar).collect::<Option<_>>()?,
            scores: ranked.into_iter().map(|(score, _)| score).collect(),
            truths: vec![TruthKind::One; things.len()],
        });
    }
    precision(&compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_thing_has_the_networks_proportions() {
        let picture = RgbImage::from_fn(100, 80, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let bounds = Bounds { left: 40.0, top: 10.0, right: 50.0, bottom: 50.0 };
        // 40 rows, a quarter more, in the proportions of 2 to 1.
        let (part, corner) = part(&picture, bounds, [64, 32]);
        assert_eq!((part.dimensions(), corner), ((25, 50), [5.0, 32.0]));
        assert_eq!(part.get_pixel(3, 4).0, [35, 9, 7]);
        let (outside, corner) =
            super::part(&picture, Bounds { left: -4.0, right: 4.0, top: 0.0, bottom: 8.0 }, [32, 32]);
        assert_eq!((outside.dimensions(), corner), ((10, 10), [-1.0, -5.0]));
        assert_eq!([outside.get_pixel(4, 5).0, outside.get_pixel(5, 1).0], [[0; 3], [0, 0, 7]]);
    }

    #[test]
    fn what_is_found_is_counted_point_by_point() {
        let thing = |at: f64| LabelledThing {
            picture: "a.png".into(),
            bounds: Bounds { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 },
            area: 100.0,
            points: (0..17).map(|point| (point < 2).then_some([at, at])).collect(),
        };
        let found = |at: f32| vec![Some(Point { class: 0, thing: 0, score: 0.5, place: [at, at] }); 17];
        let things = [thing(20.0), thing(60.0)];
        let picture = |found: [FoundThing; 2], is_one_by_one| {
            [Picture { things: things.iter().collect(), found: found.into(), is_one_by_one }]
        };
        let name = |point| format!("p{point}");
        let evaluation = score("m".into(), name, &picture([found(20.0), found(90.0)], true));
        assert_eq!((evaluation.things, evaluation.pck), (2, 50.0));
        // One of two is as it should be: recall 0 to 50 of 100 with precision 1.
        assert!((evaluation.ap_50.unwrap() - 100.0 * 51.0 / 101.0).abs() < 1e-9, "{evaluation:?}");
        assert_eq!(evaluation.points[1].labelled, 2);
        assert_eq!((evaluation.points[2].labelled, evaluation.points[2].pck), (0, 0.0));
        // Each may be taken for the other.
        let exchanged = score("m".into(), name, &picture([found(60.0), found(20.0)], true));
        assert_eq!((exchanged.pck, exchanged.ap_50), (0.0, Some(100.0)));
        // What was found in whole pictures belongs to what it is nearest to.
        let together = score("m".into(), name, &picture([found(60.0), found(20.0)], false));
        assert_eq!((together.pck, together.ap_50), (100.0, Some(100.0)));
        // One that was found is not two that are labelled.
        let alike = [thing(20.0), thing(20.0)];
        let one = Picture { things: alike.iter().collect(), found: vec![found(20.0)], is_one_by_one: false };
        assert_eq!(score("m".into(), name, &[one]).pck, 50.0);
        let mut half = found(20.0);
        half[1] = None;
        let one = [Picture { things: things.iter().collect(), found: vec![half], is_one_by_one: false }];
        let one = score("m".into(), name, &one);
        assert_eq!((one.things, one.pck, one.points[0].pck, one.points[1].pck), (2, 25.0, 50.0, 0.0));
    }
}
