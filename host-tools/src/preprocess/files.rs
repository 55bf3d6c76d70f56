//! Preprocessing that other programs have written down: transformers' `preprocessor_config.json`,
//! timm's `config.json`, our own `preprocessing.json`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use resight_imaging::{Channels, Fit, Interpolation, Preprocessing};
use serde::Deserialize;
use serde_json::Value;

use super::convention::Convention;
use super::error::{FileCause, PreprocessError};

/// Largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A size as transformers writes it: `224`, `{"shortest_edge": 256}` or `{"height": 1, "width": 1}`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(f64),
    Shortest { shortest_edge: f64 },
    Both { height: f64, width: f64 },
}

impl Size {
    fn shorter(self) -> f64 {
        match self {
            Self::Side(side) => side,
            Self::Shortest { shortest_edge } => shortest_edge,
            Self::Both { height, width } => height.min(width),
        }
    }
}

/// transformers' image processors, what matters of them.
#[derive(Debug, Deserialize)]
struct Transformers {
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
    rescale_factor: Option<f64>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    do_center_crop: Option<bool>,
    do_flip_channel_order: Option<bool>,
    size: Option<Size>,
    crop_size: Option<Size>,
    crop_pct: Option<f64>,
    resample: Option<i64>,
}

/// timm's description of what a network was trained with.
#[derive(Debug, Deserialize)]
struct Timm {
    mean: Vec<f64>,
    std: Vec<f64>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    interpolation: Option<String>,
}

/// Reads `path`, whichever of the formats it has.
///
/// # Errors
/// A file that cannot be read or has none of them.
pub(super) fn read(path: &Path) -> Result<Convention, PreprocessError> {
    let refuse = |cause: FileCause| PreprocessError::File { path: path.into(), cause };
    let value = json(path).map_err(refuse)?;
    parse(&value).map_err(refuse)?.ok_or_else(|| refuse(FileCause::UnknownFormat))
}

/// What lies beside the network: the file and what it says. A `config.json` that says nothing of
/// pictures is passed over.
///
/// # Errors
/// A file that is there but cannot be read, or has no sense.
pub(super) fn beside(model: &Path) -> Result<Option<(PathBuf, Convention)>, PreprocessError> {
    let folder = model.parent().unwrap_or(Path::new(""));
    for name in ["preprocessor_config.json", "config.json"] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let refuse = |cause: FileCause| PreprocessError::File { path: path.clone(), cause };
        if let Some(convention) = json(&path).and_then(|value| parse(&value)).map_err(refuse)? {
            return Ok(Some((path, convention)));
        }
    }
    Ok(None)
}

fn json(path: &Path) -> Result<Value, FileCause> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(FileCause::Size { most: MAX_BYTES });
    }
    serde_json::from_str(&text).map_err(FileCause::NoJson)
}

/// `None` where it is of no known format.
fn parse(value: &Value) -> Result<Option<Convention>, FileCause> {
    let known = FileCause::Json;
    if let Some(timm) = value.get("pretrained_cfg") {
        return timm_convention(&Timm::deserialize(timm).map_err(known)?).map(Some);
    }
    if value.get("image_mean").is_some() || value.get("image_processor_type").is_some() {
        return transformers_convention(&Transformers::deserialize(value).map_err(known)?).map(Some);
    }
    if value.get("resize_shorter").is_some() {
        let own = Preprocessing::deserialize(value).map_err(known)?;
        own.validate()?;
        let ratio = f64::from(own.resize_shorter) / f64::from(own.crop[0].max(own.crop[1]));
        return Ok(Some(Convention {
            scale: 1.0 / 255.0,
            mean: own.mean.map(shortest),
            standard_deviation: own.standard_deviation.map(shortest),
            channels: Some(own.channels),
            fit: own.fit,
            resize: Some(ratio),
            interpolation: own.interpolation,
        }));
    }
    Ok(None)
}

/// The number of the fewest digits that is this one in f32.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn timm_convention(timm: &Timm) -> Result<Convention, FileCause> {
    let fit = match timm.crop_mode.as_deref() {
        None | Some("center") => Fit::Crop,
        Some("squash") => Fit::Squash,
        Some("border") => Fit::Letterbox,
        Some(other) => return Err(FileCause::CropMode(other.into())),
    };
    Ok(Convention {
        scale: 1.0 / 255.0,
        mean: three("mean", &timm.mean)?,
        standard_deviation: three("std", &timm.std)?,
        channels: None,
        fit,
        resize: timm.crop_pct.map(|share| ratio("crop_pct", 1.0, share)).transpose()?,
        interpolation: match timm.interpolation.as_deref() {
            // What `random` is for training; timm evaluates with its first choice.
            None | Some("bilinear" | "random") => Interpolation::Bilinear,
            Some("bicubic") => Interpolation::Bicubic,
            Some("box") => Interpolation::Area,
            Some(other) => return Err(FileCause::Interpolation(other.into())),
        },
    })
}

fn transformers_convention(file: &Transformers) -> Result<Convention, FileCause> {
    let scale = if file.do_rescale == Some(false) { 1.0 } else { file.rescale_factor.unwrap_or(1.0 / 255.0) };
    let (mut mean, mut standard_deviation) = ([0.0; 3], [1.0; 3]);
    if file.do_normalize != Some(false) {
        let values =
            |key, values: &Option<Vec<f64>>| three(key, values.as_deref().ok_or(FileCause::Missing(key))?);
        mean = values("image_mean", &file.image_mean)?;
        standard_deviation = values("image_std", &file.image_std)?;
    }
    let crop = file.crop_size.filter(|_| file.do_center_crop != Some(false));
    let (fit, resize) = match (file.size, crop, file.crop_pct) {
        // ConvNeXt's and ResNet's processor: a crop of a share of the resized picture.
        (Some(Size::Shortest { .. }), _, Some(share)) => (Fit::Crop, Some(ratio("crop_pct", 1.0, share)?)),
        (Some(size), Some(crop), _) => (Fit::Crop, Some(ratio("crop_size", size.shorter(), crop.shorter())?)),
        (Some(Size::Shortest { .. }), None, None) => (Fit::Crop, Some(1.0)),
        (Some(Size::Side(_) | Size::Both { .. }), None, _) => (Fit::Squash, None),
        (None, _, _) => (Fit::Crop, None),
    };
    let flipped = file.do_flip_channel_order == Some(true);
    Ok(Convention {
        scale,
        mean,
        standard_deviation,
        channels: flipped.then_some(Channels::Bgr),
        fit,
        resize,
        interpolation: match file.resample {
            None | Some(2) => Interpolation::Bilinear,
            Some(3) => Interpolation::Bicubic,
            Some(4) => Interpolation::Area,
            Some(other) => return Err(FileCause::Resample(other)),
        },
    })
}

/// How much larger than the crop the resized picture is.
fn ratio(key: &'static str, resized: f64, crop: f64) -> Result<f64, FileCause> {
    let ratio = resized / crop;
    if !(crop > 0.0 && (1.0..=16.0).contains(&ratio)) {
        return Err(FileCause::Crop { key, crop, resized });
    }
    Ok(ratio)
}

fn three(key: &'static str, values: &[f64]) -> Result<[f64; 3], FileCause> {
    match *values {
        [one] => Ok([one; 3]),
        [first, second, third] => Ok([first, second, third]),
        _ => Err(FileCause::Count { key, found: values.len() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Convention {
        parse(value).unwrap().unwrap()
    }

    #[test]
    fn configurations_of_other_programs_are_understood() {
        // microsoft/resnet-50
        let resnet = read(&json!({
            "crop_pct": 0.875, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "ConvNextFeatureExtractor",
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            "resample": 3, "size": {"shortest_edge": 224}
        }));
        assert_eq!(
            resnet,
            Convention {
                resize: Some(1.0 / 0.875),
                interpolation: Interpolation::Bicubic,
                ..Convention::named("imagenet").unwrap()
            }
        );
        let mobile_vit = read(&json!({
            "image_processor_type": "MobileViTImageProcessor", "do_normalize": false,
            "do_flip_channel_order": true, "do_center_crop": true,
            "size": {"shortest_edge": 288}, "crop_size": {"height": 256, "width": 256}
        }));
        assert_eq!(mobile_vit.channels, Some(Channels::Bgr));
        assert_eq!((mobile_vit.mean, mobile_vit.resize), ([0.0; 3], Some(1.125)));
        let vit = read(&json!({
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 224,
            "rescale_factor": 0.003_921_568_627_450_98
        }));
        assert_eq!((vit.mean, vit.fit), ([0.5; 3], Fit::Squash));
        assert_eq!(vit.interpolation, Interpolation::Bilinear);
        let timm = read(&json!({"architecture": "resnet50", "pretrained_cfg": {
            "input_size": [3, 224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
            "crop_pct": 0.95, "crop_mode": "border", "interpolation": "bicubic"
        }}));
        assert_eq!((timm.fit, timm.standard_deviation), (Fit::Letterbox, [0.25; 3]));
        assert_eq!(timm.interpolation, Interpolation::Bicubic);
        let own = serde_json::to_value(Preprocessing::default()).unwrap();
        assert_eq!(read(&own).mean, [0.485, 0.456, 0.406]);
        assert!(parse(&json!({"model_type": "resnet"})).unwrap().is_none());
    }

    #[test]
    fn nonsense_is_named() {
        let cause = |value: Value| parse(&value).unwrap_err().to_string();
        assert!(cause(json!({"image_mean": [1.0, 2.0]})).contains("`image_mean` has 2 values"));
        assert!(cause(json!({"image_mean": "x"})).contains("invalid type"));
        let timm = |key: &str, value: Value| {
            let mut configuration = json!({"mean": [0.5], "std": [0.5]});
            configuration[key] = value;
            json!({ "pretrained_cfg": configuration })
        };
        assert!(cause(timm("crop_pct", json!(0.0))).contains("`crop_pct`"));
        assert!(cause(timm("crop_mode", json!("spiral"))).contains("spiral"));
        assert!(cause(timm("interpolation", json!("lanczos"))).contains("`interpolation` is \"lanczos\""));
        assert!(
            cause(json!({"image_mean": [0.5], "image_std": [0.5], "resample": 1}))
                .contains("`resample` is 1")
        );
    }
}
