//! How pictures become a network's input: the switches of `resight quantize`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use resight::import::Imported;
use resight::preprocess::{Convention, Found, candidates, find, named_or_file};
use resight_imaging::{Channels, Fit, Interpolation, MAX_INPUT_SIDE, Preprocessing};

/// What the network is given for a picture; found out from the network and the files beside it
/// where nothing is said.
#[derive(Debug, Clone, Args, Default, PartialEq)]
pub(crate) struct PictureArguments {
    /// What the network was trained to be given: imagenet (or torchvision: ImageNet's mean and
    /// deviation), caffe (BGR less ImageNet's mean), tf (-1 to 1), unit (0 to 1), none (0 to 255),
    /// or a FILE: `preprocessor_config.json` of transformers, `config.json` of timm,
    /// `preprocessing.json`. What the network does itself is not done twice.
    #[arg(long, value_name = "NAME|FILE")]
    preprocess: Option<String>,
    /// What is subtracted of each channel, after --scale, in the order of --channels.
    #[arg(long, value_name = "M[,M,M]", value_delimiter = ',', allow_negative_numbers = true)]
    mean: Option<Vec<f64>>,
    /// What each channel is divided by then.
    #[arg(long, value_name = "D[,D,D]", value_delimiter = ',')]
    std: Option<Vec<f64>>,
    /// What grey levels, 0 to 255, are multiplied with first; 1/255 = 0.00392157 by default.
    #[arg(long, value_name = "FACTOR")]
    scale: Option<f64>,
    /// The channels that the network takes: rgb, bgr or gray.
    #[arg(long, value_name = "ORDER")]
    channels: Option<Channels>,
    /// How a picture becomes as large as the network's input: crop (the middle), squash (all of
    /// it, distorted) or letterbox (all of it, with margins).
    #[arg(long, value_name = "HOW")]
    fit: Option<Fit>,
    /// Length that the shorter side of an image is resized to before the centre is cut out, in
    /// pixels; 8/7 of the network's input by default, as for ImageNet.
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// How pixels of a resized picture are made: bilinear or bicubic (Pillow's, so torchvision's and timm's),
    /// area (the mean of what is covered), bilinear-without-antialias (OpenCV's `cv2.resize`).
    #[arg(long, value_name = "KERNEL")]
    interpolation: Option<Interpolation>,
}

impl PictureArguments {
    /// Whether nothing is said.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How pictures are to become as large as the input, if that is all that is said, or if nothing is.
    #[expect(clippy::option_option, reason = "nothing else is said, and this may not be said either")]
    pub(crate) fn fit_alone(&self) -> Option<Option<Fit>> {
        (*self == Self { fit: self.fit, ..Self::default() }).then_some(self.fit)
    }

    /// With this fit where none is asked for.
    pub(crate) fn fitted(&self, fit: Fit) -> Self {
        Self { fit: self.fit.or(Some(fit)), ..self.clone() }
    }

    /// With the shorter side resized to `pixels`.
    pub(crate) fn resized(self, pixels: u32) -> Self {
        Self { resize: Some(pixels), ..self }
    }

    /// The preprocessing that is asked for, or found for `model`; says where it is from.
    pub(crate) fn preprocessing(&self, imported: &Imported, model: &Path) -> Result<Preprocessing> {
        let mut found = self.found(imported, model)?;
        if let Some(channels) = self.channels {
            found.convention.channels = Some(channels);
        }
        if let Some(fit) = self.fit {
            found.convention.fit = fit;
        }
        if let Some(interpolation) = self.interpolation {
            found.convention.interpolation = interpolation;
        }
        ensure!(
            !imported.preparation.grey_levels || found.convention.is_of_levels(),
            "the network takes the bytes of a picture as they are, from 0 to 255, and no {}; leave --preprocess, --mean, --std and --scale out",
            found.convention
        );
        let mut preprocessing = found.preprocessing(imported)?;
        if let Some(pixels) = self.resize {
            let [height, width] = preprocessing.crop;
            ensure!(
                preprocessing.fit == Fit::Crop,
                "--resize {pixels}: with --fit {} the whole picture is resized to the input; leave it out",
                preprocessing.fit.name()
            );
            let larger = height.max(width);
            ensure!(
                (larger..=MAX_INPUT_SIDE).contains(&pixels),
                "--resize {pixels}: the network's input is {width} x {height}, so at least {larger} and at most {MAX_INPUT_SIDE}"
            );
            preprocessing.resize_shorter = pixels;
        }
        match (found.is_guess, preprocessing.channels) {
            (false, _) => log::info!("preprocessing: {}, from {}", found.convention, found.origin),
            (true, Channels::Gray) => log::warn!(
                "nothing says what a network of one channel is given: {} is assumed; if it was trained on anything else, say so by --mean and --std",
                found.convention
            ),
            (true, _) => log::info!(
                "preprocessing: {}, because nothing says otherwise; `--preprocess` does",
                found.convention
            ),
        }
        Ok(preprocessing)
    }

    fn found(&self, imported: &Imported, model: &Path) -> Result<Found> {
        let numbers = self.mean.is_some() || self.std.is_some() || self.scale.is_some();
        let mut found = match &self.preprocess {
            Some(argument) => named_or_file(argument).context("--preprocess")?,
            None if numbers => {
                Found { convention: Convention::unit(), origin: "the command line".into(), is_guess: false }
            }
            None => find(imported, model)?,
        };
        if let Some(scale) = self.scale {
            ensure!(scale.is_finite() && scale > 0.0, "--scale {scale}: a positive number is needed");
            found.convention.scale = scale;
        }
        if let Some(mean) = &self.mean {
            found.convention.mean = three("--mean", mean)?;
        }
        if let Some(std) = &self.std {
            ensure!(
                std.iter().all(|d| d.is_finite() && *d > 0.0),
                "--std {std:?}: positive numbers are needed"
            );
            found.convention.standard_deviation = three("--std", std)?;
        }
        Ok(found)
    }
}

fn three(switch: &str, values: &[f64]) -> Result<[f64; 3]> {
    match *values {
        [one] => Ok([one; 3]),
        [first, second, third] => Ok([first, second, third]),
        _ => {
            bail!("{switch} has {} numbers; one, or one for each of three channels, are needed", values.len())
        }
    }
}

/// Says so where the network seems to be made for another preprocessing.
pub(crate) fn warn_of_better(imported: &Imported, images: &[PathBuf], chosen: &Preprocessing) -> Result<()> {
    if let Some(better) = candidates::better(imported, images, chosen)? {
        log::warn!(
            "THE NETWORK SEEMS TO BE TRAINED ON OTHER PICTURES: with `{}` it is {:.0} % sure of its best class on average, with what is chosen {:.0} % (and a picture tells {:.2} nats about the class, now {:.2}); say so if it was",
            better.switches,
            better.confidence.probability * 100.0,
            better.chosen.probability * 100.0,
            better.confidence.information,
            better.chosen.information
        );
    }
    Ok(())
}
