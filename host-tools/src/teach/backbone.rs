//! The int8 network that is taught: a model file, or one that is quantised on the photographs first.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use resight_base::files::write_atomically;
use resight_base::text::hex;
use resight_imaging::Preprocessing;
use resight_model_file::{Labels, sha256_of_file};
use resight_runtime::Model;
use serde::{Deserialize, Serialize};

use super::cache::Digest;
use crate::import::Imported;
use crate::quantise::{Method, Options, Progress, quantise};
use crate::save::save;

/// Photographs that a network is quantised on, at most.
const CALIBRATION: usize = 200;

/// What an int8 network in the cache was made from.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    preprocessing: Preprocessing,
    /// Digests of the photographs that it was quantised on.
    photographs: Vec<String>,
}

/// Quantises an f32 network on the photographs, or takes what an earlier run made of it, as long as
/// half of the photographs of then are still there: new ones change an int8 network by next to nothing,
/// and the features of all others would have to be computed again.
///
/// # Errors
/// A network that cannot be quantised, files that cannot be read or written.
pub fn quantised(
    imported: &Imported,
    source: &Path,
    preprocessing: Preprocessing,
    photographs: &[(PathBuf, Digest)],
    cache: &Path,
    progress: Progress<'_>,
) -> Result<Model> {
    let digest = sha256_of_file(source)?;
    let at = |extension: &str| cache.join(format!("backbone-{}.{extension}", &digest[..16]));
    let (model, origin) = (at("resight.tar"), at("json"));
    if let Some(model) = earlier(&model, &origin, &preprocessing, photographs) {
        return Ok(model);
    }
    let chosen = evenly(photographs);
    let images: Vec<PathBuf> = chosen.iter().map(|(path, _)| path.clone()).collect();
    let classes = imported.graph.nodes.last().map_or(0, |node| node.shape[0]);
    let names: String = (0..classes).map(|class| format!("class {class}\n")).collect();
    let labels = Labels::parse("the backbone's classes", names.as_bytes())?;
    let options = Options::new(Method::Mse, preprocessing.clone());
    let named = || source.display().to_string();
    let quantised = quantise(imported, &images, &options, progress).with_context(named)?;
    save(&model, source, &labels, &options, &quantised)?;
    let made = Origin { preprocessing, photographs: chosen.iter().map(|(_, digest)| hex(digest)).collect() };
    let text = serde_json::to_vec_pretty(&made)?;
    write_atomically(&origin, |file| std::io::Write::write_all(file, &text))?;
    Ok(Model::load(&model)?)
}

/// The model of an earlier run, if it fits.
fn earlier(
    model: &Path,
    origin: &Path,
    preprocessing: &Preprocessing,
    photographs: &[(PathBuf, Digest)],
) -> Option<Model> {
    let origin: Origin = serde_json::from_slice(&fs::read(origin).ok()?).ok()?;
    let here: HashSet<String> = photographs.iter().map(|(_, digest)| hex(digest)).collect();
    let left = origin.photographs.iter().filter(|digest| here.contains(*digest)).count();
    let fits = origin.preprocessing == *preprocessing && 2 * left >= origin.photographs.len() && left > 0;
    if fits { Model::load(model).ok() } else { None }
}

/// So many of the photographs, which are in the order of their classes, that each class has its share.
fn evenly(photographs: &[(PathBuf, Digest)]) -> Vec<&(PathBuf, Digest)> {
    let count = photographs.len().min(CALIBRATION);
    (0..count).map(|index| &photographs[index * photographs.len() / count]).collect()
}

/// What is to be done where a network is not usable as a backbone.
///
/// # Errors
/// Always but for a file that is there.
pub fn check_there(path: &Path) -> Result<()> {
    if !path.exists() {
        bail!(
            "{}: there is no such file, and no recipe of that name: give an f32 ONNX network, an int8 model file, or \
             a name that `resight fetch --list` shows",
            path.display()
        );
    }
    Ok(())
}
