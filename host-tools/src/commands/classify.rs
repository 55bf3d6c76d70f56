use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use resight::classifier::{AnyModel, is_onnx};
use resight::vectors::VectorModel;
use resight_base::console::print_line;
use resight_imaging::{ImageView, Photograph, read_photograph};
use resight_runtime::{
    Bounds, Detection, Found, Head, Locator, Model, Point, RuntimeError, Target, ThreadSettings, cosine,
    top_k,
};
use serde_json::{Value, json};

use super::print_json;
use super::tiles::TileArguments;

/// Arguments of `resight classify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight classify resnet50.resight.tar cat.png dog.jpg --top 3

Of a network that ends in a vector: the vector of one picture, or the cosine of the angle between those
of each two, the most alike first (1: the same, 0: nothing in common).")]
pub(crate) struct Arguments {
    /// The model: a `.resight.tar` file, or an `.onnx` file to run in f32.
    model: PathBuf,
    /// Images to classify.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How many classes to show.
    #[arg(long, default_value = "5", value_name = "N")]
    top: NonZeroUsize,
    #[command(flatten)]
    tiles: TileArguments,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let target = Target::of_this_machine()?;
        let mut model = if is_onnx(&self.model) {
            self.tiles.refuse()?;
            AnyModel::load(&self.model, &target)?
        } else {
            let model = Model::load(&self.model)?;
            if model.head().says_where() {
                return self.locate(&model, &target);
            }
            self.tiles.refuse()?;
            if matches!(model.head(), Head::Embedding(_)) {
                return self.compare(model, &target);
            }
            AnyModel::int8(model, &target)?
        };
        let mut results = vec![];
        for path in &self.images {
            let Photograph { image, treatment } = read_photograph(path)?;
            let treatment = treatment.to_string();
            let logits = model.logits(&image)?;
            let probabilities = model.probabilities(&logits);
            let best = top_k(&logits, self.top.get());
            let anomaly = model.anomaly([image.height(), image.width()]);
            if self.json {
                let classes: Vec<_> = best
                    .iter()
                    .map(|&class| {
                        json!({
                            "class": class,
                            "name": model.name(class),
                            "probability": probabilities[class],
                            "logit": logits[class],
                        })
                    })
                    .collect();
                let mut result = json!({ "image": path, "treatment": treatment, "classes": classes });
                if let Some((area, map)) = anomaly {
                    result["anomaly"] = json!({ "area": area, "map": map });
                }
                results.push(result);
                continue;
            }
            let treatment = if treatment.is_empty() { treatment } else { format!("  ({treatment})") };
            print_line(format_args!("{}{treatment}", path.display()))?;
            for class in best {
                print_line(format_args!(
                    "  {:6.2} %  {class:>4}  {}",
                    probabilities[class] * 100.0,
                    model.name(class)
                ))?;
            }
            if let Some((area, _)) = anomaly {
                let [left, top, width, height] = area.map(|share| share * 100.0);
                print_line(format_args!(
                    "  least typical at {left:.1} % from the left and {top:.1} % from the top, {width:.1} % wide and \
                     {height:.1} % high"
                ))?;
            }
        }
        if self.json {
            print_json(&results)?;
        }
        Ok(())
    }

    /// Prints the vector of one picture, or how alike each two of several are, the most alike first.
    fn compare(&self, model: Model, target: &Target) -> Result<()> {
        let mut model = VectorModel::int8(Arc::new(model), target)?;
        let (mut vectors, mut treatments) = (vec![], vec![]);
        for path in &self.images {
            let Photograph { image, treatment } = read_photograph(path)?;
            vectors.push(model.embed(&image)?);
            treatments.push(treatment.to_string());
        }
        if self.json {
            let result = |(index, path): (usize, &PathBuf)| {
                let alike: Vec<f32> = vectors.iter().map(|other| cosine(&vectors[index], other)).collect();
                let treatment = &treatments[index];
                json!({ "image": path, "treatment": treatment, "vector": vectors[index], "cosines": alike })
            };
            return print_json(&self.images.iter().enumerate().map(result).collect::<Vec<Value>>());
        }
        for (path, treatment) in self.images.iter().zip(&treatments).filter(|(_, said)| !said.is_empty()) {
            log::info!("{}: {treatment}", path.display());
        }
        if let [vector] = vectors.as_slice() {
            let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
            return Ok(print_line(format_args!("{}", numbers.join(" ")))?);
        }
        let pairs =
            (0..vectors.len()).flat_map(|one| (one + 1..vectors.len()).map(move |other| (one, other)));
        let mut pairs: Vec<(f32, usize, usize)> =
            pairs.map(|(one, other)| (cosine(&vectors[one], &vectors[other]), one, other)).collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (alike, one, other) in pairs {
            let [one, other] = [one, other].map(|index| self.images[index].display());
            print_line(format_args!("{alike:7.4}  {one}  {other}"))?;
        }
        Ok(())
    }

    /// Prints where things are: boxes, the likeliest first, points, or which share of the mask is of
    /// which class.
    fn locate(&self, model: &Model, target: &Target) -> Result<()> {
        let settings = ThreadSettings { threads: Some(NonZeroUsize::MIN), pin: false };
        let tiling = self.tiles.tiling()?;
        if !matches!(model.head(), Head::Boxes(_)) {
            self.tiles.refuse()?;
        }
        let mut locator = Locator::new(model, target, settings)?;
        let name = |class: usize| model.labels().name(class).unwrap_or_default();
        let mut results = vec![];
        for path in &self.images {
            let Photograph { image, treatment } = read_photograph(path)?;
            let treatment = treatment.to_string();
            let (mut boxes, mut shares, mut points) = (vec![], vec![], vec![]);
            let view = ImageView::of(&image)?;
            if let Some(tiling) = tiling {
                boxes = tiling.locate(&view, |tile| boxes_of(locator.locate(tile)))?;
            }
            let whole = if tiling.is_some() { Found::Boxes(&[]) } else { locator.locate(&view)? };
            match whole {
                Found::Boxes(found) => boxes.extend_from_slice(found),
                Found::Points(found) => points.extend_from_slice(found),
                Found::Mask { classes, .. } => {
                    for class in 0..model.labels().len() {
                        let pixels = classes.iter().filter(|&&found| usize::from(found) == class).count();
                        if pixels > 0 {
                            shares.push((class, 100.0 * pixels as f64 / classes.len() as f64));
                        }
                    }
                    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
                }
            }
            if self.json {
                let what = match model.head() {
                    Head::Boxes(_) => ("boxes", json_of_boxes(&boxes, name)),
                    Head::Points(_) => ("points", json_of_points(&points, name)),
                    _ => ("mask", json_of_shares(&shares, name)),
                };
                results.push(json!({ "image": path, "treatment": treatment, what.0: what.1 }));
                continue;
            }
            let treatment = if treatment.is_empty() { treatment } else { format!("  ({treatment})") };
            print_line(format_args!("{}{treatment}", path.display()))?;
            for found in &boxes {
                print_line(format_args!(
                    "{:7.2} %  {}  {}",
                    found.score * 100.0,
                    name(found.class),
                    found.bounds
                ))?;
            }
            let things = points.chunk_by(|a, b| a.thing == b.thing);
            let several = things.clone().count() > 1;
            for (number, thing) in things.enumerate() {
                if several {
                    print_line(format_args!("thing {}:", number + 1))?;
                }
                for point in thing {
                    let (percent, [down, right]) = (point.score.clamp(0.0, 1.0) * 100.0, point.place);
                    print_line(format_args!(
                        "{percent:7.2} %  {}  at {right:.1}, {down:.1}",
                        name(point.class)
                    ))?;
                }
            }
            for (class, percent) in &shares {
                print_line(format_args!("{percent:7.2} %  {} of the picture", name(*class)))?;
            }
        }
        if self.json { print_json(&results) } else { Ok(()) }
    }
}

/// The boxes among what was found.
fn boxes_of(found: Result<Found<'_>, RuntimeError>) -> Result<Vec<Detection>, RuntimeError> {
    Ok(match found? {
        Found::Boxes(boxes) => boxes.to_vec(),
        Found::Mask { .. } | Found::Points(_) => vec![],
    })
}

fn json_of_boxes<'a>(boxes: &[Detection], name: impl Fn(usize) -> &'a str) -> Value {
    let json = |found: &Detection| {
        let Bounds { left, top, right, bottom } = found.bounds;
        json!({
            "class": found.class,
            "name": name(found.class),
            "score": found.score,
            "box": [left, top, right, bottom],
        })
    };
    boxes.iter().map(json).collect()
}

fn json_of_points<'a>(points: &[Point], name: impl Fn(usize) -> &'a str) -> Value {
    let json = |&Point { class, thing, score, place: [down, right] }: &Point| json!({ "point": class, "thing": thing, "name": name(class), "score": score, "place": [right, down] });
    points.iter().map(json).collect()
}

fn json_of_shares<'a>(shares: &[(usize, f64)], name: impl Fn(usize) -> &'a str) -> Value {
    let json =
        |(class, percent): &(usize, f64)| json!({ "class": class, "name": name(*class), "percent": percent });
    shares.iter().map(json).collect()
}
