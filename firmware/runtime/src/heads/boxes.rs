//! From maps to boxes.

use std::fmt;

use resight_model_file::{Activation, BoxDecoder, CenterNet, LengthUnit, OutputMap};

use super::error::HeadError;
use super::maps::{Map, check};
use crate::error::RuntimeError;
use crate::program::Outputs;
use crate::tensors::TensorFact;

/// The edges of a box, in pixels from the upper left corner of an image.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// The least column.
    pub left: f32,
    /// The least row.
    pub top: f32,
    /// The column behind the last.
    pub right: f32,
    /// The row behind the last.
    pub bottom: f32,
}

impl Bounds {
    /// What it covers, in pixels; 0 where it covers nothing.
    pub fn area(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    /// What both cover as a share of what either does, `0..=1`.
    pub fn overlap(&self, other: &Self) -> f32 {
        let common = Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        };
        let together = self.area() + other.area() - common.area();
        if together > 0.0 { common.area() / together } else { 0.0 }
    }

    /// What of it is within an image of `[height, width]`.
    #[must_use]
    pub fn within(&self, [height, width]: [f32; 2]) -> Self {
        Self {
            left: self.left.clamp(0.0, width),
            top: self.top.clamp(0.0, height),
            right: self.right.clamp(0.0, width),
            bottom: self.bottom.clamp(0.0, height),
        }
    }
}

impl fmt::Display for Bounds {
    /// Such as `from 12, 30 to 64, 80`: left, top, right, bottom, rounded to whole pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, top, right, bottom } = self;
        write!(f, "from {left:.0}, {top:.0} to {right:.0}, {bottom:.0}")
    }
}

/// A thing in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Its class, counted from 0.
    pub class: usize,
    /// Its probability, `0..=1`.
    pub score: f32,
    /// Where it is.
    pub bounds: Bounds,
}

/// The head of a network whose maps boxes are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxHead {
    maps: Vec<OutputMap>,
    decoder: BoxDecoder,
    peaks: Peaks,
}

/// The maps of [`CenterNet`], found.
#[derive(Debug, Clone, PartialEq)]
struct Peaks {
    heat_map: Map,
    size: Map,
    offset: Option<Map>,
    /// Pixels of the network's image in a cell, `[vertical, horizontal]`.
    cell: [f32; 2],
    /// Pixels in what widths and heights are counted in, `[vertical, horizontal]`.
    unit: [f32; 2],
    /// The least byte of the heat map that is as likely as the threshold; 128 if none is.
    least: i16,
}

/// A peak that may become a box.
#[derive(Debug, Clone, Copy)]
struct Peak {
    heat: i8,
    class: usize,
    row: usize,
    column: usize,
}

impl Peak {
    /// The likeliest first; of equals by class, then row, then column.
    fn rank(&self) -> (i16, usize, usize, usize) {
        (-i16::from(self.heat), self.class, self.row, self.column)
    }
}

/// The boxes of an image, and the memory to find them in: made once, it grows no more.
#[derive(Debug, Default)]
pub struct Detections {
    peaks: Vec<Peak>,
    found: Vec<Detection>,
}

impl Detections {
    /// The boxes, the likeliest first, in pixels of the network's image.
    pub fn boxes(&self) -> &[Detection] {
        &self.found
    }
}

impl BoxHead {
    /// The head for these outputs of a network that takes images of `[height, width]`.
    ///
    /// # Errors
    /// Outputs that are not what the decoder needs.
    pub fn new(
        maps: Vec<OutputMap>,
        decoder: BoxDecoder,
        outputs: &[TensorFact],
        input: [usize; 2],
    ) -> Result<Self, HeadError> {
        decoder.validate()?;
        check(&maps, outputs)?;
        let BoxDecoder::CenterNet(centernet) = &decoder;
        let peaks = Peaks::new(&maps, centernet, outputs, input)?;
        Ok(Self { maps, decoder, peaks })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.peaks.heat_map.channels
    }

    /// What the outputs are.
    pub fn maps(&self) -> &[OutputMap] {
        &self.maps
    }

    /// How boxes are made of them.
    pub fn decoder(&self) -> &BoxDecoder {
        &self.decoder
    }

    /// The same head with another least probability, `0..=1`.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f32) -> Self {
        self.decoder = self.decoder.with_threshold(threshold);
        self.peaks.least = least(&self.peaks.heat_map, threshold);
        self
    }

    /// Memory for the boxes of images.
    pub fn memory(&self) -> Detections {
        let most = self.decoder.most();
        // One more while the least likely is not left out yet.
        Detections { peaks: Vec::with_capacity(most + 1), found: Vec::with_capacity(most) }
    }

    /// Finds the boxes in the outputs of a run. Allocates nothing with [`memory`](Self::memory).
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode(&self, outputs: Outputs<'_>, into: &mut Detections) -> Result<(), RuntimeError> {
        let BoxDecoder::CenterNet(decoder) = &self.decoder;
        self.peaks.find(outputs, decoder.most, &mut into.peaks)?;
        into.found.clear();
        for peak in &into.peaks {
            let detection = self.peaks.detection(outputs, *peak)?;
            let hides = |better: &Detection| {
                better.class == detection.class && better.bounds.overlap(&detection.bounds) > decoder.overlap
            };
            if !into.found.iter().any(hides) {
                into.found.push(detection);
            }
        }
        Ok(())
    }
}

/// The least byte of a map that stands for at least so much; 128 if none does.
fn least(map: &Map, threshold: f32) -> i16 {
    let index = map.values.iter().position(|&value| value >= threshold);
    index.map_or(128, |index| index as i16 - 128)
}

fn bytes<'a>(outputs: Outputs<'a>, map: &Map) -> Result<&'a [i8], RuntimeError> {
    let output = outputs.get(map.index);
    let output = output.ok_or_else(|| RuntimeError::Graph(format!("there is no output `{}`", map.name)))?;
    let bytes = output.slice::<i8>()?;
    if bytes.len() != map.size[0] * map.size[1] * map.channels {
        return Err(RuntimeError::Graph(format!("the output `{}` is of another network", map.name)));
    }
    Ok(bytes)
}

impl Peaks {
    fn new(
        maps: &[OutputMap],
        decoder: &CenterNet,
        outputs: &[TensorFact],
        input: [usize; 2],
    ) -> Result<Self, HeadError> {
        let heat_map = Map::find(maps, outputs, &decoder.heat_map)?;
        if heat_map.activation == Some(Activation::Softmax) {
            return Err(HeadError::Activation { name: heat_map.name, activation: Activation::Softmax });
        }
        let size = Map::find(maps, outputs, &decoder.size)?;
        size.expect(2, "width and height")?;
        size.same_size(&heat_map)?;
        let offset = decoder.offset.as_ref().map(|name| Map::find(maps, outputs, name)).transpose()?;
        if let Some(offset) = &offset {
            offset.expect(2, "the places to the right and downwards")?;
            offset.same_size(&heat_map)?;
        }
        let cell = [0, 1].map(|axis| input[axis] as f32 / heat_map.size[axis] as f32);
        let unit = match decoder.unit {
            LengthUnit::Cells => cell,
            LengthUnit::Pixels => [1.0; 2],
        };
        let least = least(&heat_map, decoder.threshold);
        Ok(Self { heat_map, size, offset, cell, unit, least })
    }

    /// The likeliest peaks, at most so many, the likeliest first.
    fn find(&self, outputs: Outputs<'_>, most: usize, peaks: &mut Vec<Peak>) -> Result<(), RuntimeError> {
        peaks.clear();
        let heats = bytes(outputs, &self.heat_map)?;
        let Map { size: [height, width], channels, .. } = self.heat_map;
        for (index, &heat) in heats.iter().enumerate() {
            // Few cells are likely: everything else comes after this.
            if i16::from(heat) < self.least {
                continue;
            }
            let (row, column, class) = (index / channels / width, index / channels % width, index % channels);
            let peak = Peak { heat, class, row, column };
            let is_full = peaks.len() == most;
            if is_full && peaks.last().is_some_and(|last| last.rank() < peak.rank()) {
                continue;
            }
            let rows = row.saturating_sub(1)..(row + 2).min(height);
            let columns = column.saturating_sub(1)..(column + 2).min(width);
            let mut around =
                rows.flat_map(|y| columns.clone().map(move |x| heats[(y * width + x) * channels + class]));
            if around.any(|neighbour| neighbour > heat) {
                continue;
            }
            let place = peaks.partition_point(|other| other.rank() < peak.rank());
            peaks.insert(place, peak);
            peaks.truncate(most);
        }
        Ok(())
    }

    /// The box of a peak.
    fn detection(&self, outputs: Outputs<'_>, peak: Peak) -> Result<Detection, RuntimeError> {
        let Peak { heat, class, row, column } = peak;
        let pair = |map: &Map| {
            let at = (row * map.size[1] + column) * 2;
            let values = bytes(outputs, map)?;
            Ok::<[f32; 2], RuntimeError>([map.value(values[at]), map.value(values[at + 1])])
        };
        let [width, height] = pair(&self.size)?;
        let [right, down] = self.offset.as_ref().map_or(Ok([0.0; 2]), pair)?;
        let middle = [(row as f32 + down) * self.cell[0], (column as f32 + right) * self.cell[1]];
        let half = [height * self.unit[0] / 2.0, width * self.unit[1] / 2.0];
        let bounds = Bounds {
            left: middle[1] - half[1],
            top: middle[0] - half[0],
            right: middle[1] + half[1],
            bottom: middle[0] + half[0],
        };
        Ok(Detection { class, score: self.heat_map.value(heat), bounds })
    }
}
