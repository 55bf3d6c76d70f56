//! What families of networks are given for a picture.

use std::fmt;

use resight_imaging::{Channels, Fit, Interpolation, Preprocessing};

use super::error::UnfitCause;
use crate::import::Imported;

/// Grey levels to the unit interval.
const UNIT: f64 = 1.0 / 255.0;

/// What a network was trained to be given for a picture, before what it does itself:
/// `(grey level * scale - mean) / standard deviation`.
#[derive(Debug, Clone, PartialEq)]
pub struct Convention {
    /// What grey levels, 0 to 255, are multiplied with.
    pub scale: f64,
    /// One per channel of the network, in its order; for one channel, three times the same.
    pub mean: [f64; 3],
    /// As `mean`.
    pub standard_deviation: [f64; 3],
    /// The channels of the network; `None` for red, green and blue, or grey where it takes one.
    pub channels: Option<Channels>,
    /// How a picture becomes as large as the input.
    pub fit: Fit,
    /// Length that the shorter side is resized to for an input of 1; `None` for `ImageNet`'s.
    pub resize: Option<f64>,
    /// How pixels of the resized picture are made.
    pub interpolation: Interpolation,
}

impl Convention {
    /// Names of [`named`](Self::named).
    pub const NAMES: [&'static str; 6] = ["imagenet", "torchvision", "caffe", "tf", "unit", "none"];

    /// A well-known one: `imagenet` or `torchvision` (ImageNet's mean and deviation), `caffe` (BGR
    /// grey levels less ImageNet's mean), `tf` (-1 to 1), `unit` (0 to 1), `none` (grey levels).
    pub fn named(name: &str) -> Option<Convention> {
        Some(match name {
            "imagenet" | "torchvision" => Self::imagenet(),
            "caffe" => Self::caffe(),
            "tf" => Self::tf(),
            "unit" => Self::unit(),
            "none" => Self::grey_levels(),
            _ => return None,
        })
    }

    /// Mean and deviation of ImageNet's pictures.
    pub fn imagenet() -> Convention {
        Convention { mean: [0.485, 0.456, 0.406], standard_deviation: [0.229, 0.224, 0.225], ..Self::unit() }
    }

    /// Blue, green and red grey levels less those of ImageNet's mean.
    pub fn caffe() -> Convention {
        Convention { mean: [103.939, 116.779, 123.68], channels: Some(Channels::Bgr), ..Self::grey_levels() }
    }

    /// -1 to 1.
    pub fn tf() -> Convention {
        Convention { mean: [0.5; 3], standard_deviation: [0.5; 3], ..Self::unit() }
    }

    /// 0 to 1.
    pub fn unit() -> Convention {
        Convention {
            scale: UNIT,
            mean: [0.0; 3],
            standard_deviation: [1.0; 3],
            channels: None,
            fit: Fit::Crop,
            resize: None,
            interpolation: Interpolation::Bilinear,
        }
    }

    /// 0 to 255.
    pub fn grey_levels() -> Convention {
        Convention { scale: 1.0, ..Self::unit() }
    }

    /// Whether it leaves grey levels as they are.
    pub fn is_of_levels(&self) -> bool {
        self.scale == 1.0 && self.mean == [0.0; 3] && self.standard_deviation == [1.0; 3]
    }

    /// The preprocessing that gives `imported` this, without what the network does itself.
    ///
    /// # Errors
    /// Another number of channels than the network's, channels in an order other than RGB and BGR,
    /// numbers out of range; says which.
    pub fn preprocessing(&self, imported: &Imported) -> Result<Preprocessing, UnfitCause> {
        let [count, height, width] = imported.graph.nodes.first().map_or([0; 3], |node| node.shape);
        let given = match (self.channels, count) {
            (None, 1) => Channels::Gray,
            (channels, _) => channels.unwrap_or_default(),
        };
        if given.count() != count {
            return Err(UnfitCause::ChannelCount { expected: count, found: given });
        }
        let order = &imported.preparation.channels;
        let channels = match (order.as_slice(), given) {
            ([0] | [0, 1, 2], given) => given,
            ([2, 1, 0], Channels::Bgr) => Channels::Rgb,
            ([2, 1, 0], _) => Channels::Bgr,
            _ => return Err(UnfitCause::ChannelOrder(order.clone())),
        };
        let mut result = Preprocessing {
            channels,
            fit: self.fit,
            interpolation: self.interpolation,
            ..Preprocessing::for_input(height as u32, width as u32)
        };
        let larger = height.max(width);
        match (self.fit, self.resize) {
            (Fit::Crop, Some(ratio)) => result.resize_shorter = (larger as f64 * ratio).round() as u32,
            (Fit::Crop, None) => {}
            (Fit::Squash | Fit::Letterbox, _) => result.resize_shorter = larger as u32,
        }
        for channel in 0..3 {
            let (mean, deviation) = self.prepared(imported, channel.min(count - 1));
            result.mean[channel] = mean as f32;
            result.standard_deviation[channel] = deviation as f32;
        }
        result.validate()?;
        Ok(result)
    }

    /// Mean and deviation, of values from 0 to 1, of what channel `channel` is behind the
    /// network's own preparation.
    fn prepared(&self, imported: &Imported, channel: usize) -> (f64, f64) {
        let preparation = &imported.preparation;
        let own = preparation.channels[channel];
        // Grey levels are 255 times as much.
        // Where nothing is to do, nothing may be rounded.
        let levels = if self.scale == UNIT { 1.0 } else { 255.0 * self.scale };
        let (mean, deviation) = (self.mean[own] / levels, self.standard_deviation[own] / levels);
        // factor * ((x - mean) / deviation) + term = (x - (mean - term * deviation / factor)) / (deviation / factor)
        let (factor, term) = (preparation.scale[channel], preparation.offset[channel]);
        (mean - term * deviation / factor, deviation / factor)
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::NAMES.iter().find(|name| {
            let Self { fit, resize, interpolation, .. } = *self;
            Self::named(name).is_some_and(|known| Self { fit, resize, interpolation, ..known } == *self)
        });
        match known {
            Some(name) => f.write_str(name)?,
            None => write!(
                f,
                "{} x {} less {:?}, divided by {:?}",
                self.channels.unwrap_or_default().name(),
                self.scale,
                self.mean,
                self.standard_deviation
            )?,
        }
        if self.fit != Fit::Crop {
            write!(f, ", {}", self.fit.name())?;
        }
        if self.interpolation != Interpolation::Bilinear {
            write!(f, ", {}", self.interpolation.name())?;
        }
        Ok(())
    }
}
