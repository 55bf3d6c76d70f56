//! The `resightd` service.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use resight_network::{
    Classifier, Model, RgbView, ThreadSettings, decode, isa_from_environment, predictions,
};

/// Classify an image on this board with an int8 model file.
#[derive(Debug, Parser)]
#[command(name = "resightd", version, arg_required_else_help = true)]
#[command(after_help = "Example:\n  resightd --model resnet50.resight.tar --image cat.png")]
struct Cli {
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

impl Cli {
    fn run(self) -> Result<()> {
        let model = Model::load(&self.model)?;
        let isa = isa_from_environment()?;
        let mut classifier =
            Classifier::new(&model, isa, ThreadSettings { threads: self.threads, pin: false })?;
        classifier.self_test(&model)?;
        log::info!("{}: {} golden vectors reproduced by {isa}", model.name(), model.golden().len());
        let image = decode(&self.image)?;
        let start = Instant::now();
        let logits = classifier.classify(RgbView::of(&image)?)?;
        log::info!("classified in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
        for prediction in predictions(logits, self.top) {
            println!(
                "{:6.2} %  {:>4}  {}",
                prediction.probability * 100.0,
                prediction.class,
                model.labels().name(prediction.class).unwrap_or_default()
            );
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resightd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
