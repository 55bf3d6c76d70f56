//! The `resightd` service: camera frames in, lines out.
//!
//! A library only so that `resight demo` can be the service too; what is stable is the command
//! line, see [`main`].

mod board;
mod camera;
mod capture;
mod change;
mod config;
#[cfg(feature = "documentation")]
mod documentation;
mod frame;
mod health;
mod http;
mod judge;
mod lines;
mod live;
mod locate;
mod log_queue;
mod logging;
mod names;
mod notify;
mod outputs;
mod pace;
mod password;
mod picture;
mod queue;
mod reach;
mod runtime;
mod secret;
mod source;
mod stages;
mod status;
mod status_socket;
mod switches;
mod sync;
mod telemetry;
mod threads;
mod verify;
mod version;
mod wake;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use config::Config;
use resight_base::console::{complain, is_closed, print, print_line};
use resight_imaging::{ImageView, Orientation, Photograph, Region, clipped, read_photograph};
use resight_runtime::{Classifier, Model, Target, ThreadSettings};

use crate::camera::Wanted;
use crate::runtime::LinesInUse;

/// Classify camera frames with an int8 network and switch lines by what they show.
#[derive(Debug, Parser)]
#[command(name = "resightd", version = version::VERSION.as_str(), arg_required_else_help = true, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  resightd run /etc/resight/resightd.toml\n  \
    resightd --model resnet50.resight.tar --image cat.png")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    classify: Option<Classify>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the loop: frames in, lines and events out.
    Run {
        /// The configuration.
        file: PathBuf,
    },
    /// Check a configuration, and the model that it names if it is there.
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Put every line of a configuration to its safe level, for `ExecStopPost=` of a unit.
    ///
    /// Neither the model nor the rest of the configuration has to be valid. What a line does after
    /// this program has ended depends on its back end and driver, see docs/lines.md. Under systemd
    /// the lines are those of the process that has ended, whatever the file says by now.
    Safe {
        /// The configuration, for when no process left word of its lines.
        file: PathBuf,
    },
    /// Print a configuration.
    Config {
        /// The commented default.
        #[arg(long, required_unless_present_any = ["schema", "reference"])]
        default: bool,
        /// The JSON schema of configurations, for editors: put `#:schema FILE` into the first line.
        #[arg(long, conflicts_with = "default")]
        schema: bool,
        /// All keys, as a document in Markdown.
        #[arg(long, conflicts_with_all = ["default", "schema"])]
        reference: bool,
    },
    /// Classify one image.
    Classify(Classify),
    /// Run a model's golden vectors on this board.
    SelfTest {
        /// The model file.
        #[arg(long, value_name = "FILE")]
        model: PathBuf,
        /// Compute threads; one for each fast core by default.
        #[arg(long, value_name = "N")]
        threads: Option<NonZeroUsize>,
    },
    /// Time a model on this board.
    Bench {
        /// The model file.
        #[arg(long, value_name = "FILE")]
        model: PathBuf,
        /// Compute threads; one for each fast core by default.
        #[arg(long, value_name = "N")]
        threads: Option<NonZeroUsize>,
        /// Bind each thread to one core.
        #[arg(long)]
        pin: bool,
        /// How many times.
        #[arg(long, default_value_t = 20, value_name = "N")]
        runs: usize,
    },
    /// List the cameras: formats, sizes, rates, controls, and what would be chosen.
    Cameras {
        /// What the network resizes the shorter side of an image to, in pixels.
        #[arg(long, default_value_t = 256, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
        side: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the GPIO chips with their lines: names, offsets, directions, and who holds them.
    Lines {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write raw frames of the configured source to a file, as the service gets them.
    Capture {
        /// The configuration.
        file: PathBuf,
        /// The camera, if the configuration has several; the first otherwise.
        #[arg(long, value_name = "NAME")]
        camera: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 1, value_name = "N")]
        frames: usize,
        /// The file to write, one frame after another.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Show what this board has, and what to do about each problem.
    Doctor,
    /// Make the hash of a password for `password_file`: reads one line, and writes the hash.
    Password,
    /// Show the SHA-256 of the certificate that browsers are shown, to compare with theirs.
    Fingerprint {
        /// The configuration.
        file: PathBuf,
    },
    /// Measure how many frames the running service classifies in a second.
    ///
    /// Asks over the service's Unix socket, which root and its own user may use; without one over HTTP.
    Health {
        /// The configuration that it runs with.
        file: PathBuf,
        /// How long to measure.
        #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Fewer frames per second than this are an error.
        #[arg(long, default_value_t = 0.0, value_name = "RATE")]
        at_least: f64,
    },
    /// Check that the configured key signed a release that is to replace this one.
    ///
    /// The release must demand the same key. Its resightd needs no signature if it is this
    /// program or /usr/bin/resightd, which came with the package.
    Verify {
        /// The configuration that names the key.
        file: PathBuf,
        /// Folder with resightd.toml, the model, resightd and resightd.sig; or with SHA256SUMS.sig,
        /// which is for all of it.
        release: PathBuf,
        /// Accept a number that is lower than the running release's.
        #[arg(long)]
        older: bool,
    },
    /// Write manual pages and completions.
    #[cfg(feature = "documentation")]
    #[command(hide = true)]
    Documentation {
        /// Folder that stands for /usr/share.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Classify {
    /// The model file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The PNG or JPEG image to classify.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Compute threads; one for each fast core by default.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// How many classes to show.
    #[arg(long, default_value_t = 5, value_name = "N")]
    top: usize,
}

/// A model with what classifies by it, which has passed its self-test.
fn tested(model: Model, threads: Option<NonZeroUsize>) -> Result<(Model, Classifier, String)> {
    let target = Target::of_this_machine()?;
    let isa = target.isa;
    let mut classifier = Classifier::new(&model, &target, ThreadSettings { threads, pin: false })?;
    classifier.self_test(&model)?;
    let passed = format!("{}: {} golden vectors reproduced by {isa}", model.name(), model.golden().len());
    Ok((model, classifier, passed))
}

/// Drives every line that can be found and opened to its safe level: those of the process that has
/// ended, or else of the configuration `file`.
fn safe(file: &Path) -> Result<()> {
    let mut files = LinesInUse::from_environment().found();
    let readable = files.iter().any(|file| Config::load_lines(file).is_ok());
    if !readable {
        files.push(file.to_owned());
    }
    let (mut told, mut errors, mut failed) = (vec![], vec![], vec![]);
    for file in files {
        // One that cannot be read is no reason to leave the lines of another one on.
        let (lines, mistakes) = Config::load_lines(&file).unwrap_or_else(|error| (vec![], Some(error)));
        let before = errors.len();
        errors.extend(mistakes.map(|mistakes| mistakes.to_string()));
        for line in lines::safe(&lines) {
            match line {
                Ok(line) => told.push(line + "\n"),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.len() > before {
            failed.push(file.display().to_string());
        }
    }
    // Only now: whoever should read it may be gone, or not reading.
    for error in errors {
        complain(format_args!("resightd: {error}"));
    }
    let printed = print(format_args!("{}", told.concat()));
    ensure!(
        failed.is_empty(),
        "{}: not every line is known to be at its safe level, see above",
        failed.join(", ")
    );
    Ok(printed?)
}

/// Checks a configuration and says what it found, and what may be amiss on this machine only.
fn check(file: &Path) -> Result<()> {
    match stages::check(file)? {
        None => print_line(format_args!("{}: valid", file.display()))?,
        Some(model) => print_line(format_args!(
            "{}: valid, but for the classes, because the model {} is missing",
            file.display(),
            model.display()
        ))?,
    }
    let Config { cameras, output, .. } = Config::load(file)?;
    let mut notes = outputs::check_secrets(&output)?;
    for camera in &cameras {
        let named = camera.name.as_ref().map_or_else(String::new, |name| format!("camera {name}: "));
        notes.extend(source::missing_program(&camera.source).map(|program| {
            format!(
                "{named}source.command: there is no program {program} on this machine; the board needs it"
            )
        }));
    }
    notes.extend(output.mqtt.and_then(|mqtt| outputs::unresolved(&mqtt.host, mqtt.port)));
    for note in notes {
        complain(format_args!("note: {note}"));
    }
    Ok(())
}

impl Classify {
    fn run(self) -> Result<()> {
        let model = Model::load(&self.model)?;
        if locate::is_for(&model) {
            return locate::print(&model, &self.image, self.threads);
        }
        if locate::is_for_vectors(&model) {
            return locate::print_vector(&model, &self.image, self.threads);
        }
        let (model, mut classifier, passed) = tested(model, self.threads)?;
        log::info!("{passed}");
        let Photograph { image, treatment } = read_photograph(&self.image)?;
        let treatment = treatment.to_string();
        if !treatment.is_empty() {
            log::info!("{}: {treatment}", self.image.display());
        }
        let start = Instant::now();
        let head = classifier.head();
        let view = ImageView::of(&image)?;
        let logits = classifier.classify(&view)?.to_vec();
        log::info!("classified in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
        for prediction in head.predictions(&logits, self.top) {
            print_line(format_args!(
                "{:6.2} %  {:>4}  {}",
                prediction.probability * 100.0,
                prediction.class,
                model.labels().name(prediction.class).unwrap_or_default()
            ))?;
        }
        if let Some(inspection) = classifier.inspection() {
            let area = inspection.area(classifier.map());
            let placement = model.preprocessing().placement(view.size(), Orientation::default());
            let area = placement.rectangle([area.left, area.top, area.width, area.height]);
            let [left, top, width, height] = clipped(area).map(|share| share * 100.0);
            print_line(format_args!(
                "least typical at {left:.1} % from the left and {top:.1} % from the top, {width:.1} % wide and \
                 {height:.1} % high"
            ))?;
        }
        Ok(())
    }
}

impl Cli {
    fn run(self) -> Result<()> {
        match self.command {
            Some(Command::Run { file }) => stages::run(&file),
            Some(Command::Check { file }) => check(&file),
            Some(Command::Safe { file }) => safe(&file),
            Some(Command::Config { schema: true, .. }) => {
                print(format_args!("{:#}\n", config::schema()))?;
                Ok(())
            }
            Some(Command::Config { reference: true, .. }) => {
                print(format_args!("{}", config::reference()))?;
                Ok(())
            }
            Some(Command::Config { .. }) => {
                print(format_args!("{}", config::default()))?;
                Ok(())
            }
            Some(Command::Classify(classify)) => classify.run(),
            Some(Command::SelfTest { model, threads }) => {
                let model = Model::load(&model)?;
                let passed = if locate::is_for(&model) {
                    locate::tested(&model, threads)?.1
                } else if locate::is_for_vectors(&model) {
                    locate::tested_embedder(&model, threads)?.1
                } else {
                    tested(model, threads)?.2
                };
                print_line(format_args!("{passed}"))?;
                Ok(())
            }
            Some(Command::Bench { model, threads, pin, runs }) => {
                print(format_args!("{}", board::bench(&model, ThreadSettings { threads, pin }, runs)?))?;
                Ok(())
            }
            Some(Command::Cameras { side, json }) => {
                print(format_args!("{}", camera::cameras(Wanted::new(side, Region::WHOLE), json)))?;
                Ok(())
            }
            Some(Command::Lines { json }) => {
                print(format_args!("{}", lines::list(json)))?;
                Ok(())
            }
            Some(Command::Capture { file, camera, frames, output }) => {
                let done = capture::capture(&file, camera.as_deref(), frames, &output)?;
                print_line(format_args!("{done}"))?;
                Ok(())
            }
            Some(Command::Doctor) => {
                let (text, healthy) = board::doctor();
                print(format_args!("{text}"))?;
                if !healthy {
                    bail!("there are problems, see above");
                }
                Ok(())
            }
            Some(Command::Password) => {
                print_line(format_args!("{}", password::hash()?))?;
                Ok(())
            }
            Some(Command::Fingerprint { file }) => {
                let config = Config::load(&file)?;
                let http = config.output.http.context("there is no `http` in [output]")?;
                print_line(format_args!("{}", http::Identity::find(&http)?.fingerprint()))?;
                Ok(())
            }
            Some(Command::Health { file, seconds, at_least }) => {
                print_line(format_args!("{}", health::health(&file, seconds, at_least)?))?;
                Ok(())
            }
            Some(Command::Verify { file, release, older }) => {
                print_line(format_args!("{}", verify::verify(&file, &release, older)?))?;
                Ok(())
            }
            #[cfg(feature = "documentation")]
            Some(Command::Documentation { folder }) => {
                documentation::write(<Self as clap::CommandFactory>::command(), &folder)
            }
            None => self.classify.context("a command or --model and --image are needed; see --help")?.run(),
        }
    }
}

/// What is wrong with the text of a configuration, for fuzz targets.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn mistakes_of(text: &str) -> Vec<String> {
    let mistakes = Config::parse(text, Path::new("/etc/resight")).err().unwrap_or_default();
    mistakes.iter().map(ToString::to_string).collect()
}

/// The program: parses `arguments` (the first is the program's name), runs the command, and says on
/// standard error what went wrong.
///
/// Starts the logger and handles signals, so call it once in a process. Wrong usage ends the
/// process with 2; an error is exit code 1.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    logging::start();
    let result = Cli::parse_from(arguments).run();
    log::logger().flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // As after `| head -1`: who reads has read enough.
        Err(error) if is_closed(error.chain()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::fatal(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
