//! What a network is to be given for a picture, and how that is known.
//!
//! A [`Convention`] is what a network was trained on. What the network does itself with its input
//! ([`Preparation`]) is taken off, so that nothing is applied twice,
//! and what remains is the model file's [`Preprocessing`].

pub mod candidates;
mod convention;
mod error;
mod files;

use std::path::Path;

use resight_imaging::{Channels, Preprocessing};
use resight_model_file::sha256_of_file;

pub use convention::Convention;
pub use error::{FileCause, PreprocessError, UnfitCause};

use crate::fetch::Loaded;
use crate::import::{Imported, Preparation};

/// Metadata of ONNX files for the order of an image's channels, from ONNX's `MetadataProps.md`.
const PIXEL_FORMAT: &str = "Image.BitmapPixelFormat";
/// Likewise for what its values are.
const PIXEL_RANGE: &str = "Image.NominalPixelRange";

/// A convention and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What the network is given.
    pub convention: Convention,
    /// Where that is written.
    pub origin: String,
    /// Whether nothing says so: it is only what most networks are given.
    pub is_guess: bool,
}

impl Found {
    /// See [`Convention::preprocessing`].
    ///
    /// # Errors
    /// Those of [`Convention::preprocessing`], with where the convention came from.
    pub fn preprocessing(&self, imported: &Imported) -> Result<Preprocessing, PreprocessError> {
        self.convention
            .preprocessing(imported)
            .map_err(|cause| PreprocessError::Unfit { origin: self.origin.clone(), cause })
    }
}

/// Reads a convention from a name or a file.
///
/// # Errors
/// A file that cannot be used. The message names the known names too.
pub fn named_or_file(argument: &str) -> Result<Found, PreprocessError> {
    if let Some(convention) = Convention::named(argument) {
        return Ok(Found { convention, origin: format!("`{argument}`"), is_guess: false });
    }
    let path = Path::new(argument);
    if !path.exists() {
        return Err(PreprocessError::File {
            path: path.into(),
            cause: FileCause::NoFile { names: Convention::NAMES.to_vec() },
        });
    }
    Ok(Found { convention: files::read(path)?, origin: path.display().to_string(), is_guess: false })
}

/// Finds what the network in the file `model` is given: by the recipe that its bytes are from, a
/// configuration beside it, its metadata, its own normalisation, and else as most networks.
///
/// # Errors
/// A configuration beside the network that cannot be used.
pub fn find(imported: &Imported, model: &Path) -> Result<Found, PreprocessError> {
    let known = |convention: Convention, origin: String| Found { convention, origin, is_guess: false };
    if let Some(found) = of_recipe(model) {
        return Ok(found);
    }
    if let Some((path, convention)) = files::beside(model)? {
        return Ok(known(convention, path.display().to_string()));
    }
    if let Some(convention) = of_metadata(&imported.metadata) {
        return Ok(known(convention, "the file's metadata".into()));
    }
    let preparation = &imported.preparation;
    let guess =
        |convention: Convention, origin: &str| Found { convention, origin: origin.into(), is_guess: true };
    Ok(match own_range(preparation) {
        Some(convention) => known(convention, "the normalisation in the network".into()),
        None if preparation.channels.len() == 1 => guess(Convention::unit(), "nothing but its one channel"),
        None => guess(Convention::imagenet(), "habit"),
    })
}

/// The recipe of the built-in ones whose network is this file.
fn of_recipe(model: &Path) -> Option<Found> {
    let bytes = model.metadata().ok()?.len();
    let recipes = Loaded::built_in().ok()?.into_iter().map(|loaded| loaded.recipe);
    let mut sized = recipes.filter(|recipe| recipe.network.bytes == bytes).peekable();
    sized.peek()?;
    let sha256 = sha256_of_file(model).ok()?;
    let recipe = sized.find(|recipe| recipe.network.sha256 == sha256)?;
    let Preprocessing { mean, standard_deviation, channels, fit, interpolation, resize_shorter, crop } =
        recipe.preprocessing;
    let decimal = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
    let convention = Convention {
        scale: 1.0 / 255.0,
        mean: mean.map(decimal),
        standard_deviation: standard_deviation.map(decimal),
        channels: Some(channels),
        fit,
        resize: Some(f64::from(resize_shorter) / f64::from(crop[0].max(crop[1]))),
        interpolation,
    };
    Some(Found { convention, origin: format!("the recipe {}", recipe.name), is_guess: false })
}

/// What ONNX's metadata for images says, if it says anything that is known.
fn of_metadata(metadata: &[(String, String)]) -> Option<Convention> {
    let value = |key: &str| metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let convention = match value(PIXEL_RANGE)? {
        "NominalRange_0_255" => Convention::grey_levels(),
        "Normalized_0_1" => Convention::unit(),
        "Normalized_1_1" => Convention::tf(),
        _ => return None,
    };
    let channels = match value(PIXEL_FORMAT) {
        Some("Bgr8" | "Bgra8") => Some(Channels::Bgr),
        Some("Gray8") => Some(Channels::Gray),
        _ => None,
    };
    Some(Convention { channels, ..convention })
}

/// Whether a network that normalises its input itself is given values from 0 to 1 or grey levels;
/// `None` where it does not say.
fn own_range(preparation: &Preparation) -> Option<Convention> {
    if preparation.grey_levels {
        return Some(Convention::grey_levels());
    }
    if !preparation.is_normalised {
        return None;
    }
    let channels = preparation.scale.iter().zip(&preparation.offset);
    // What becomes zero is the mean of what the network is given.
    let means: Vec<f64> = channels.map(|(factor, term)| -term / factor).collect();
    let largest = means.iter().fold(0.0f64, |largest, mean| largest.max(mean.abs()));
    let factor = preparation.scale.iter().copied().fold(0.0f64, f64::max);
    if largest > 1.0 || factor < 1.0 / 16.0 {
        return Some(Convention::grey_levels());
    }
    // A batch normalisation of what is normalised already has no mean to take off.
    if largest < 0.25 && factor < 2.0 && preparation.scale != vec![1.0; preparation.scale.len()] {
        return None;
    }
    Some(Convention::unit())
}
