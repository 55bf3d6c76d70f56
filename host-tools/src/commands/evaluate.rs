use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use resight::boxes;
use resight::classifier::is_onnx;
use resight::decisions::Decisions;
use resight::evaluate::evaluate;
use resight::masks;
use resight::points;
use resight::separation::{Folder, good_and_others, is_inspection, separate};
use resight::vectors::{self, gives_vectors};
use resight_base::console::print_line;
use resight_imaging::ImageFolder;
use resight_model_file::Labels;
use resight_runtime::{Head, Model, Target};

use super::tiles::TileArguments;
use super::{Bars, optional, print_json, print_table};

/// Classes that are shown one by one.
const SHOWN: usize = 100;

/// Arguments of `resight evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight evaluate resnet50.onnx resnet50.resight.tar --images photos/ --json

DIR has labels.txt with lines `file class`, one CSV file with columns of both, or a folder for each
class. A class is a number, or a name or WordNet id of the model. With an f32 model first, the others are compared with
it: `agreement` is the share of images with the same best class, `sqnr_db` the signal to noise
ratio 10*log10(sum(ref^2) / sum((ref - x)^2)) over all logits, `centred_sqnr_db` the same with the
mean of each image's logits removed: a constant on all logits is signal that changes no decision.

Of a network that finds boxes or masks, --annotations has the labels: mAP is COCO's (101 recall
points, all areas, 100 boxes of a class in a picture at most, boxes in crowds do not count), mIoU the
mean over the classes of intersection over union, over the pixels that the network was shown. An f32
network gets decoder and preprocessing of the first int8 model. Of a network of points: COCO's JSON with
keypoints; each thing is looked at by itself. PCK@0.2 is the share of points within a fifth of the larger
side of the thing's box, AP that of COCO's key points.

Of a network whose classes do not exclude each other (sigmoid) the lines are `file class;class`, or
`file` alone; CSV files may have a column of 0 and 1 for each class. mAP is the mean over the classes
of the average precision, F1 is 2 * right / (said + shown), over all decisions (micro) or the mean of
the classes (macro).

Of a network that ends in a vector, DIR has a folder for each thing or person: recall@1 is the share of
pictures whose nearest other picture, by the cosine, is of their folder; AUROC says how often two
pictures of one folder are more alike than two of different ones; the threshold is the cosine that at
most 1 % of the latter reach, beside the share of the former that do.

A model of `resight teach` that finds anomalies is evaluated on a folder with `good` and one folder or
more of defects. With --unfamiliar, pictures of --images are those that the model was taught, and
AUROC says how often one of the others is more `unknown` than one of them.")]
pub(crate) struct Arguments {
    /// Models: `.onnx` files run in f32, `.resight.tar` files in int8.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Folder with images and what says which class each has.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// What is where in the pictures, for networks of boxes or masks: a JSON file of COCO's, a folder of
    /// XML files of Pascal VOC's or of text files of YOLO's, or a folder of PNG files of the pictures'
    /// names, whose grey levels are classes and 255 none.
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "strict")]
    annotations: Option<PathBuf>,
    /// Folder with pictures of none of the classes; may be given several times. Says how well the class
    /// `unknown` tells them from those of --images.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["threshold", "annotations"])]
    unfamiliar: Vec<PathBuf>,
    #[command(flatten)]
    tiles: TileArguments,
    /// End with an error at a picture that cannot be read, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Say of each class what this threshold of its probability decides: average precision,
    /// precision, recall and F1 [default: 0.5 for classes that do not exclude each other]; of boxes,
    /// count those that are at least so likely [default: 0.01].
    #[arg(long, value_name = "PROBABILITY")]
    threshold: Option<f64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The defaults with these files.
    pub(crate) fn new(models: Vec<PathBuf>, images: PathBuf) -> Self {
        Self {
            models,
            images,
            annotations: None,
            unfamiliar: vec![],
            tiles: TileArguments::default(),
            strict: false,
            threshold: None,
            json: false,
        }
    }

    /// With what is where in the pictures.
    pub(crate) fn annotated(self, annotations: PathBuf) -> Self {
        Self { annotations: Some(annotations), ..self }
    }

    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            self.threshold.is_none_or(|threshold| threshold > 0.0 && threshold <= 1.0),
            "--threshold must be above 0 and at most 1"
        );
        if let Some(annotations) = &self.annotations {
            let int8 = self.models.iter().find(|path| !is_onnx(path)).map(|path| Model::load(path));
            return match int8.transpose()?.as_ref().map(Model::head) {
                Some(Head::Boxes(_)) => self.boxes(annotations),
                Some(Head::Mask(_)) => self.masks(annotations),
                Some(Head::Points(_)) => self.points(annotations),
                _ if annotations.is_dir() => self.masks(annotations),
                _ => self.boxes(annotations),
            };
        }
        self.tiles.refuse()?;
        if self.models.iter().map(|path| gives_vectors(path)).collect::<Result<Vec<_>>>()?.contains(&true) {
            return self.vectors();
        }
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let inspections = self.models.iter().filter(|path| !is_onnx(path)).map(|path| is_inspection(path));
        let inspections: Vec<bool> = inspections.collect::<Result<_>>()?;
        if !self.unfamiliar.is_empty() || inspections.contains(&true) {
            return self.separate(&bars, &target);
        }
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let evaluated =
            evaluate(&self.models, &self.images, self.strict, self.threshold, &target, &progress)?;
        bars.finish();
        evaluated.notes.iter().for_each(|note| log::info!("{}: {note}", self.images.display()));
        let results = evaluated.models;
        if self.json {
            return print_json(&results);
        }
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|r| {
                vec![
                    r.model.clone(),
                    r.images.to_string(),
                    format!("{:.2}", r.top1),
                    format!("{:.2}", r.top5),
                    optional(r.agreement, 2),
                    optional(r.sqnr_db, 2),
                    optional(r.centred_sqnr_db, 2),
                ]
            })
            .collect();
        print_table(
            &["model", "images", "top-1 %", "top-5 %", "agreement %", "SQNR dB", "centred dB"],
            &rows,
        )?;
        for (result, labels) in results.iter().zip(&evaluated.labels) {
            if let Some(decisions) = &result.decisions {
                print_decisions(&result.model, decisions, labels.as_ref())?;
            }
        }
        Ok(())
    }
}

impl Arguments {
    /// How well boxes are found.
    fn boxes(&self, annotations: &Path) -> Result<()> {
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let look = boxes::Look {
            threshold: self.threshold.map_or(boxes::THRESHOLD, |threshold| threshold as f32),
            tiling: self.tiles.tiling()?,
        };
        let results = boxes::evaluate(&self.models, &self.images, annotations, look, &target, &progress)?;
        bars.finish();
        if self.json {
            return print_json(&results);
        }
        let number = |value: f64| format!("{value:.2}");
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|r| {
                let (images, truths) = (r.images.to_string(), r.truths.to_string());
                vec![r.model.clone(), images, truths, number(r.map_50), number(r.map_50_95)]
            })
            .collect();
        print_table(&["model", "images", "boxes", "mAP@0.5 %", "mAP@0.5:0.95 %"], &rows)?;
        for result in &results {
            print_line(format_args!("\n{}", result.model))?;
            let rows: Vec<Vec<String>> = result
                .classes
                .iter()
                .map(|c| {
                    let name = format!("{} {}", c.class, c.name);
                    vec![name, c.truths.to_string(), number(c.ap_50), number(c.ap_50_95)]
                })
                .collect();
            print_table(&["class", "boxes", "AP@0.5 %", "AP@0.5:0.95 %"], &rows)?;
        }
        Ok(())
    }

    /// How well points are found.
    fn points(&self, annotations: &Path) -> Result<()> {
        self.tiles.refuse()?;
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let results = points::evaluate(&self.models, &self.images, annotations, &target, &progress)?;
        bars.finish();
        if self.json {
            return print_json(&results);
        }
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|r| {
                let things = r.things.to_string();
                let precisions = [Some(r.pck), r.ap_50, r.ap_50_95].map(|value| optional(value, 2));
                [vec![r.model.clone(), things], precisions.to_vec()].concat()
            })
            .collect();
        print_table(&["model", "things", "PCK@0.2 %", "AP@0.5 %", "AP@0.5:0.95 %"], &rows)?;
        for result in &results {
            print_line(format_args!("\n{}", result.model))?;
            let rows: Vec<Vec<String>> = result
                .points
                .iter()
                .map(|p| {
                    vec![format!("{} {}", p.point, p.name), p.labelled.to_string(), format!("{:.2}", p.pck)]
                })
                .collect();
            print_table(&["point", "labelled", "PCK@0.2 %"], &rows)?;
        }
        Ok(())
    }

    /// How well vectors tell what pictures show.
    fn vectors(&self) -> Result<()> {
        ensure!(
            self.threshold.is_none() && self.unfamiliar.is_empty(),
            "--threshold and --unfamiliar are for networks of classes, which a vector has not"
        );
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let results = vectors::evaluate(&self.models, &self.images, self.strict, &target, &progress)?;
        bars.finish();
        if self.json {
            return print_json(&results);
        }
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|r| {
                vec![
                    r.model.clone(),
                    r.images.to_string(),
                    format!("{:.2}", r.recall_at_1),
                    format!("{:.2}", r.recall_at_5),
                    format!("{:.2}", r.auroc),
                    format!("{:.4}", r.threshold),
                    format!("{:.2}", r.found),
                    optional(r.cosine, 4),
                    optional(r.least_cosine, 4),
                    optional(r.agreement, 2),
                ]
            })
            .collect();
        print_table(
            &[
                "model",
                "images",
                "recall@1 %",
                "recall@5 %",
                "AUROC %",
                "threshold",
                "found %",
                "cosine to f32",
                "least",
                "agreement %",
            ],
            &rows,
        )
    }

    /// How well masks are found.
    fn masks(&self, annotations: &Path) -> Result<()> {
        self.tiles.refuse()?;
        let (bars, target) = (Bars::new(), Target::of_this_machine()?);
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let results = masks::evaluate(&self.models, &self.images, annotations, &target, &progress)?;
        bars.finish();
        if self.json {
            return print_json(&results);
        }
        let number = |value: f64| format!("{value:.2}");
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|r| {
                vec![r.model.clone(), r.images.to_string(), number(r.pixel_accuracy), number(r.mean_iou)]
            })
            .collect();
        print_table(&["model", "images", "pixels %", "mIoU %"], &rows)?;
        for result in &results {
            print_line(format_args!("\n{}", result.model))?;
            let rows: Vec<Vec<String>> = result
                .classes
                .iter()
                .map(|c| vec![format!("{} {}", c.class, c.name), c.pixels.to_string(), number(c.iou)])
                .collect();
            print_table(&["class", "pixels", "IoU %"], &rows)?;
        }
        Ok(())
    }
}

impl Arguments {
    /// How well the models tell apart what they were taught and what not, or good parts and defects.
    fn separate(&self, bars: &Bars, target: &Target) -> Result<()> {
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let folder = |path: &PathBuf| -> Result<Folder> {
            Ok(Folder { name: path.display().to_string(), files: ImageFolder::read(path)?.files })
        };
        let (pictures, others) = if self.unfamiliar.is_empty() {
            good_and_others(&self.images)?
        } else {
            let others = self.unfamiliar.iter().map(folder).collect::<Result<_>>()?;
            (ImageFolder::read(&self.images)?.files, others)
        };
        let mut results = vec![];
        for model in &self.models {
            let (result, notes) = separate(model, &pictures, &others, self.strict, target, &progress)?;
            // The same of each model.
            notes.iter().filter(|_| results.is_empty()).for_each(|note| log::info!("{note}"));
            results.push(result);
        }
        bars.finish();
        if self.json {
            return print_json(&results);
        }
        let mut rows = vec![];
        for result in &results {
            for others in result.folders.iter().chain([&result.others]) {
                rows.push(vec![
                    result.model.clone(),
                    others.name.clone(),
                    others.pictures.to_string(),
                    format!("{:.2}", others.auroc),
                    format!("{:.1}", others.found),
                    format!("{:.1}", others.found_at_one_percent),
                    result.pictures.to_string(),
                    format!("{:.1}", result.false_alarms),
                ]);
            }
        }
        let class = results.first().map_or("", |result| result.class.as_str());
        print_table(
            &[
                "model",
                "others",
                "images",
                "AUROC %",
                &format!("{class} %"),
                "at 1 %",
                "images",
                "false alarms %",
            ],
            &rows,
        )
    }
}

/// What a threshold decides of each class.
fn print_decisions(model: &str, decisions: &Decisions, labels: Option<&Labels>) -> Result<()> {
    print_line(format_args!(
        "\n{model} at {}: mAP {} %, F1 {} % (micro), {} % (macro)",
        decisions.threshold,
        optional(decisions.mean_average_precision, 2),
        optional(decisions.micro_f1, 2),
        optional(decisions.macro_f1, 2)
    ))?;
    // Of many classes those that something can be said of.
    let told = decisions.classes.iter().filter(|class| class.pictures + class.said > 0);
    let rows: Vec<Vec<String>> = told
        .take(SHOWN)
        .map(|class| {
            let name = labels.and_then(|labels| labels.name(class.class)).unwrap_or_default();
            vec![
                format!("{} {name}", class.class).trim_end().to_owned(),
                class.pictures.to_string(),
                optional(class.average_precision, 2),
                optional(class.precision, 2),
                optional(class.recall, 2),
                optional(class.f1, 2),
            ]
        })
        .collect();
    print_table(&["class", "images", "AP %", "precision %", "recall %", "F1 %"], &rows)
}
