mod comparison;
mod normal;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use resight::classifier::is_onnx;
use resight::fetch::{Loaded, Settings as Download, download};
use resight::import::import;
use resight::quantise::{Progress, check};
use resight::readable::ReadableImages;
use resight::teach::job::Digested;
use resight::teach::{GroupBy, Job, Photographs, Taught, backbone, page};
use resight_base::console::print_line;
use resight_base::files::check_writable;
use resight_imaging::{Fit, Preprocessing};
use resight_runtime::{Model, Target};
use resight_teach::{Backbone, Settings, Views};
use serde_json::json;

use self::comparison::ComparisonArgument;
use super::pictures::PictureArguments;
use super::{Bars, print_json, print_table, took};

/// Files that are listed on the terminal.
const LISTED: usize = 8;
/// Wanted false alarms, percent.
const FALSE_ALARMS: f64 = 1.0;
/// Classes whose confusion matrix fits a terminal.
const MATRIX: usize = 12;

/// Arguments of `resight teach`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight teach resnet50-v1-12 photographs/ -o mine.resight.tar --report mine.html

photographs/ has a folder for each class (or labels.txt with lines `file class`, or one CSV file of
both). 40 photographs a class are a good beginning; docs/guides/teach.md says how to take them. The
network stays as it is but for its last layer; what it was taught from and how well it works by
cross-validation is in the model file. Features are kept in a folder beside the output (--cache), so
that a second run with a few new photographs is quick.")]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
pub(crate) struct Arguments {
    /// The network: an f32 ONNX file, which is quantised on the photographs first, an int8 model file, or
    /// the name of a recipe of `resight fetch`.
    backbone: String,
    /// Folder with a folder of photographs for each class.
    #[arg(required_unless_present = "normal")]
    photographs: Option<PathBuf>,
    /// Instead of classes: learn what is typical of the photographs in this folder, which show good parts
    /// alone, and find what is not.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["photographs", "views", "no_mirror", "unknown", "no_unknown"]
    )]
    normal: Option<PathBuf>,
    /// Photographs of defects: nothing is learnt from them, but threshold and figures are.
    #[arg(long, value_name = "DIR", requires = "normal")]
    defects: Option<PathBuf>,
    /// With what each place of a part is compared: places (the same place of the good parts, which lie
    /// alike) or patches (any place of them) [default: found out].
    #[arg(long, value_name = "WHAT", requires = "normal")]
    compare: Option<ComparisonArgument>,
    /// The model file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write a report with pictures of what goes wrong, as one HTML file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Views of each photograph: the photograph itself, and others with parts of it, turned, mirrored, in
    /// other light.
    #[arg(long, default_value_t = 8, value_name = "N")]
    views: usize,
    /// Mirror no view: where left and right mean something.
    #[arg(long)]
    no_mirror: bool,
    /// What views and folds follow from.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Most folds of the cross-validation.
    #[arg(long, default_value_t = 5, value_name = "N")]
    folds: usize,
    /// Keep photographs together in cross-validation besides those that are nearly the same: of a folder,
    /// of a prefix (names but for a number at the end), or of a time (within half a minute); or nothing.
    #[arg(long, default_value = "nothing", value_name = "HOW")]
    group_by: GroupBy,
    /// Wanted share of familiar pictures that are taken for the class `unknown`, percent.
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    unknown: f64,
    /// Have no class `unknown`: every picture is one of the classes.
    #[arg(long, conflicts_with = "unknown")]
    no_unknown: bool,
    /// Wanted share of other classes' pictures above the threshold that is printed for a class, or of good
    /// parts that are taken for defects, percent [default: 1; with --defects what tells them apart best].
    #[arg(long, value_name = "PERCENT")]
    false_alarms: Option<f64>,
    /// Folder for features and for the quantised network [default: the output with `.cache`].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    pictures: PictureArguments,
    /// End with an error at a photograph that cannot be used, instead of passing it over.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn check(&self) -> Result<()> {
        ensure!((1..=64).contains(&self.views), "--views {}: 1 to 64 are possible", self.views);
        ensure!((2..=20).contains(&self.folds), "--folds {}: 2 to 20 are possible", self.folds);
        let false_alarms = self.false_alarms.unwrap_or(FALSE_ALARMS);
        for (switch, percent) in [("--unknown", self.unknown), ("--false-alarms", false_alarms)] {
            ensure!(
                percent > 0.0 && percent < 50.0,
                "{switch} {percent}: a share above 0 and below 50 percent is expected"
            );
        }
        ensure!(
            !is_onnx(&self.output),
            "{}: a model file is no ONNX file; name it {}",
            self.output.display(),
            self.output.with_extension("resight.tar").display()
        );
        check_writable(&self.output)?;
        self.report.iter().try_for_each(|report| check_writable(report))?;
        Ok(())
    }

    fn cache(&self) -> PathBuf {
        let beside = || {
            let mut name = self.output.as_os_str().to_owned();
            name.push(".cache");
            PathBuf::from(name)
        };
        self.cache.clone().unwrap_or_else(beside)
    }

    fn job(&self) -> Job {
        let settings = Settings {
            folds: self.folds,
            seed: self.seed,
            unknown: (!self.no_unknown).then_some(self.unknown / 100.0),
            false_alarms: self.false_alarms.unwrap_or(FALSE_ALARMS) / 100.0,
            ..Settings::default()
        };
        let views = Views { count: self.views, mirror: !self.no_mirror, seed: self.seed };
        Job { views, settings, group_by: self.group_by, strict: self.strict }
    }

    pub(crate) fn run(self) -> Result<()> {
        let start = Instant::now();
        self.check()?;
        match (&self.normal, &self.photographs) {
            (Some(good), _) => self.teach_normal(good, start),
            (None, Some(folder)) => self.teach_classes(folder, start),
            (None, None) => bail!("a folder of photographs is expected; see --help"),
        }
    }

    fn teach_classes(&self, folder: &Path, start: Instant) -> Result<()> {
        let photographs = Photographs::read(folder, !self.no_unknown)?;
        let cache = self.cache();
        let source = self.source(&cache)?;
        let bars = Bars::new();
        let progress = |phase: &str, done, total| bars.update(phase, done, total);
        let (model, digested) = if is_onnx(&source) {
            self.quantised(&source, &self.pictures, &photographs, &cache, &progress)?
        } else {
            let model = Model::load(&source)?;
            self.fits(model.preprocessing())?;
            // Refused before a photograph is read.
            Backbone::of(&model)?;
            (model, Digested::new(&photographs, self.group_by, &progress)?)
        };
        make_folder(&cache)?;
        let taught = self.job().teach(&model, digested, &cache, &Target::of_this_machine()?, &progress)?;
        bars.finish();
        taught.notes.iter().for_each(|note| log::warn!("{note}"));
        taught.save(&self.output, &model)?;
        if let Some(report) = &self.report {
            page::write(&taught, report)?;
        }
        if self.json {
            return print_json(&json!({
                "output": self.output,
                "seconds": start.elapsed().as_secs_f64(),
                "computed": taught.computed,
                "notes": taught.notes,
                "suspicious": files(&taught, &taught.suspicious(), usize::MAX),
                "taught": taught.report,
            }));
        }
        self.print(&taught, start)
    }

    /// An f32 network, quantised on the photographs.
    fn quantised(
        &self,
        source: &Path,
        pictures: &PictureArguments,
        photographs: &Photographs,
        cache: &Path,
        progress: Progress<'_>,
    ) -> Result<(Model, Digested)> {
        let imported = import(source)?;
        let named = || source.display().to_string();
        let preprocessing = pictures.preprocessing(&imported, source).with_context(named)?;
        check(&imported.graph, &preprocessing).with_context(named)?;
        let digested = Digested::new(photographs, self.group_by, progress)?;
        let files: Vec<PathBuf> = digested.files.iter().map(|(path, _)| path.clone()).collect();
        let readable = ReadableImages::check(&files, self.strict, progress)?;
        let usable: Vec<_> = digested
            .files
            .iter()
            .filter(|(path, _)| readable.files.binary_search(path).is_ok() || readable.files.contains(path))
            .cloned()
            .collect();
        make_folder(cache)?;
        let model = backbone::quantised(&imported, source, preprocessing, &usable, cache, progress)?;
        Ok((model, digested))
    }

    /// The file of the network, fetched if it is a recipe's.
    fn source(&self, cache: &Path) -> Result<PathBuf> {
        let path = PathBuf::from(&self.backbone);
        let is_recipe = path.extension().is_some_and(|extension| extension == "toml");
        if !is_recipe && path.exists() {
            return Ok(path);
        }
        let loaded = match Loaded::find(&self.backbone) {
            Ok(loaded) => loaded,
            Err(cause) if is_recipe => return Err(cause.into()),
            Err(_) => {
                backbone::check_there(&path)?;
                bail!("{}: neither a network nor a recipe", path.display());
            }
        };
        let network = &loaded.recipe.network;
        for folder in [Path::new("."), cache] {
            let there = folder.join(&network.file);
            if there.is_file() && resight_model_file::sha256_of_file(&there)? == network.sha256 {
                return Ok(there);
            }
        }
        make_folder(cache)?;
        log::info!("fetching {} ({})", loaded.recipe.name, loaded.recipe.licence);
        let bars = Bars::new();
        download(network, &network.urls, cache, &Download::default(), &mut |event| {
            if let resight::fetch::Event::Progress(bytes) = event {
                bars.update("fetching", bytes as usize, network.bytes as usize);
            }
        })?;
        bars.finish();
        Ok(cache.join(&network.file))
    }

    /// Refuses switches that an int8 network has answered already.
    fn fits(&self, preprocessing: &Preprocessing) -> Result<()> {
        ensure!(
            self.pictures.is_default(),
            "{}: an int8 model file says itself how pictures become its input (fit {}): leave out --preprocess, \
             --fit and their kind, or give the f32 ONNX network",
            self.backbone,
            if preprocessing.fit == Fit::Crop { "crop" } else { preprocessing.fit.name() }
        );
        Ok(())
    }

    fn print(&self, taught: &Taught, start: Instant) -> Result<()> {
        let figures = &taught.report.figures;
        let percent = |share: f64| format!("{:.1}", share * 100.0);
        let row = |class: &resight_teach::ClassFigures| {
            vec![
                class.name.clone(),
                class.photographs.to_string(),
                percent(class.recall.value),
                class.precision.map_or("-".to_owned(), percent),
                format!("{:.3}", class.threshold),
                percent(class.recall_at_threshold),
                class.photographs_for_half_the_errors.map_or("-".to_owned(), |count| count.to_string()),
            ]
        };
        let rows: Vec<Vec<String>> = figures.classes.iter().map(row).collect();
        print_table(
            &[
                "class",
                "photographs",
                "recall %",
                "precision %",
                "threshold",
                "recall there %",
                "for half the errors",
            ],
            &rows,
        )?;
        if figures.classes.len() <= MATRIX {
            print_line(format_args!(""))?;
            let names = figures.classes.iter().map(|class| class.name.as_str());
            let header: Vec<&str> = std::iter::once("is, taken for").chain(names).collect();
            let row = |(class, counts): (&resight_teach::ClassFigures, &Vec<usize>)| {
                std::iter::once(class.name.clone()).chain(counts.iter().map(usize::to_string)).collect()
            };
            print_table(
                &header,
                &figures.classes.iter().zip(&figures.confusion).map(row).collect::<Vec<_>>(),
            )?;
        }
        print_line(format_args!(
            "\n{} of photographs that were not learnt from are recognised (cross-validation, {} folds of {} groups; \
             of as many others that would be, 95 times of 100)",
            page::with_interval(figures.accuracy),
            figures.folds,
            figures.groups
        ))?;
        if let Some(unknown) = figures.unknown {
            print_line(format_args!(
                "`unknown`: what is less like the {} nearest taught pictures than {:.3}; {} % of the photographs are",
                unknown.nearest,
                unknown.threshold,
                percent(unknown.rejected)
            ))?;
        }
        let wrong = taught.wrong();
        if !wrong.is_empty() {
            print_line(format_args!(
                "taken for something else: {}",
                files(taught, &wrong, LISTED).join(", ")
            ))?;
        }
        let suspicious = taught.suspicious();
        if !suspicious.is_empty() {
            print_line(format_args!(
                "perhaps in the wrong folder: {}",
                files(taught, &suspicious, LISTED).join(", ")
            ))?;
        }
        print_line(format_args!(
            "{}: {} classes from {} photographs in {} views each, features of {} computed, {}\n\
             next: resight classify {0} PHOTOGRAPH; resight deploy USER@HOST --model {0}",
            self.output.display(),
            figures.classes.len(),
            figures.photographs,
            figures.views,
            taught.computed,
            took(start)
        ))?;
        Ok(())
    }
}

/// Paths of photographs with what they were taken for.
fn files(taught: &Taught, photographs: &[usize], most: usize) -> Vec<String> {
    let names = &taught.report.figures.classes;
    let one = |&index: &usize| {
        format!("{} ({})", taught.files[index].display(), names[taught.held_out[index].best()].name)
    };
    let more = photographs.len().saturating_sub(most);
    let mut list: Vec<String> = photographs.iter().take(most).map(one).collect();
    if more > 0 {
        list.push(format!("and {more} more"));
    }
    list
}

/// # Errors
/// A folder that cannot be made.
fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot make the folder", folder.display()))
}
