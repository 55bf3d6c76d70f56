//! Makes the fixtures that are too slow, or need too much, to be made by each test.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use resight::import::import;
use resight::quantise::{Method, Options, default_preprocessing, quantise};
use resight::save::save;
use resight::synth::{Architecture, synth, write};
use resight_fixtures::TINY_SIDE;
use resight_model_file::Labels;

/// Where `resight_fixtures::TINY_MODEL` lies.
#[must_use]
pub fn tiny_model_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny_model.tar")
}

/// Makes the model file of `resight_fixtures::TINY_MODEL` at `output`: seeded weights, calibrated
/// on four generated pictures.
///
/// # Errors
/// What import, quantisation and writing report.
pub fn make_tiny_model(output: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let at = |name: &str| folder.path().join(name);
    let network = at("net.onnx");
    write(&synth(Architecture::TinyBasic, 3), &network)?;
    let pictures: Vec<PathBuf> = (0..4).map(|index| at(&format!("{index}.png"))).collect();
    for (index, picture) in (0u32..).zip(&pictures) {
        let pixel =
            |x: u32, y: u32| image::Rgb([x * 7, y * (index + 3), x + y * 5].map(|value| (value % 256) as u8));
        image::RgbImage::from_fn(TINY_SIDE, TINY_SIDE, pixel)
            .save(picture)
            .with_context(|| format!("{}: cannot write", picture.display()))?;
    }
    let imported = import(&network)?;
    let options = Options::new(Method::Mse, default_preprocessing(&imported.graph)?);
    let quantised = quantise(&imported, &pictures, &options, &|_, _, _| ())?;
    let names: String = (0..10).map(|class| format!("n{class:08} thing_{class}\n")).collect();
    let labels = Labels::parse("the tiny model's labels", names.as_bytes())?;
    save(output, &network, &labels, &options, &quantised)?;
    Ok(())
}
