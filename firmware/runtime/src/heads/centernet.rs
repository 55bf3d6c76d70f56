//! Boxes from the peaks of a heat map.

use resight_model_file::{Activation, CenterNet, OutputMap};

use super::bounds::{Bounds, Detection};
use super::error::HeadError;
use super::maps::{Element, Least, Map, Source, unit};
use crate::error::RuntimeError;
use crate::tensors::TensorFact;

/// The maps of [`CenterNet`], found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peaks {
    heat_map: Map,
    size: Map,
    offset: Option<Map>,
    /// Pixels of the network's image in a cell, `[vertical, horizontal]`.
    cell: [f32; 2],
    /// Pixels in what widths and heights are counted in, `[vertical, horizontal]`.
    unit: [f32; 2],
    /// What is as likely as the threshold.
    least: Least,
    overlap: f32,
    most: usize,
}

/// A peak that may become a box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peak {
    /// The byte or the real number of the heat map.
    heat: f32,
    score: f32,
    class: usize,
    row: usize,
    column: usize,
}

impl Peak {
    /// Whether it is likelier; of equals by class, then row, then column.
    fn is_before(&self, other: &Self) -> bool {
        let place = |peak: &Self| (peak.class, peak.row, peak.column);
        other.heat.total_cmp(&self.heat).then_with(|| place(self).cmp(&place(other))).is_lt()
    }
}

impl Peaks {
    pub(super) fn new(
        maps: &[OutputMap],
        decoder: &CenterNet,
        outputs: &[TensorFact],
        input: [usize; 2],
    ) -> Result<Self, HeadError> {
        let heat_map = Map::find(maps, outputs, &decoder.heat_map)?;
        heat_map.ends_in(Activation::Sigmoid)?;
        let size = Map::find(maps, outputs, &decoder.size)?;
        size.expect(2, "width and height")?;
        size.same_size(&heat_map)?;
        let offset = decoder.offset.as_ref().map(|name| Map::find(maps, outputs, name)).transpose()?;
        if let Some(offset) = &offset {
            offset.expect(2, "the places to the right and downwards")?;
            offset.same_size(&heat_map)?;
        }
        let cell = heat_map.cell(input);
        let unit = unit(decoder.unit, cell);
        let least = heat_map.least(decoder.threshold);
        let CenterNet { overlap, most, .. } = *decoder;
        Ok(Self { heat_map, size, offset, cell, unit, least, overlap, most })
    }

    pub(super) fn classes(&self) -> usize {
        self.heat_map.channels
    }

    pub(super) fn set_threshold(&mut self, threshold: f32) {
        self.least = self.heat_map.least(threshold);
    }

    /// Finds the boxes; `peaks` is memory.
    pub(super) fn decode<'a>(
        &self,
        outputs: impl Source<'a>,
        peaks: &mut Vec<Peak>,
        found: &mut Vec<Detection>,
    ) -> Result<(), RuntimeError> {
        self.find(outputs, peaks)?;
        for peak in peaks {
            let detection = self.detection(outputs, *peak)?;
            let hides = |better: &Detection| {
                better.class == detection.class && better.bounds.overlap(&detection.bounds) > self.overlap
            };
            if !found.iter().any(hides) {
                found.push(detection);
            }
        }
        Ok(())
    }

    /// The likeliest peaks, the likeliest first.
    fn find<'a>(&self, outputs: impl Source<'a>, peaks: &mut Vec<Peak>) -> Result<(), RuntimeError> {
        peaks.clear();
        let heats = outputs.values(&self.heat_map)?;
        let Map { size: [height, width], channels, .. } = self.heat_map;
        for (index, &heat) in heats.iter().enumerate() {
            // Few cells are likely: everything else comes after this.
            if !heat.reaches(self.least, &self.heat_map) {
                continue;
            }
            let (row, column, class) = (index / channels / width, index / channels % width, index % channels);
            let peak = Peak { heat: heat.key(), score: heat.value(&self.heat_map), class, row, column };
            let is_full = peaks.len() == self.most;
            if is_full && peaks.last().is_some_and(|last| last.is_before(&peak)) {
                continue;
            }
            let rows = row.saturating_sub(1)..(row + 2).min(height);
            let columns = column.saturating_sub(1)..(column + 2).min(width);
            let mut around =
                rows.flat_map(|y| columns.clone().map(move |x| heats[(y * width + x) * channels + class]));
            if around.any(|neighbour| neighbour > heat) {
                continue;
            }
            let place = peaks.partition_point(|other| other.is_before(&peak));
            peaks.insert(place, peak);
            peaks.truncate(self.most);
        }
        Ok(())
    }

    /// The box of a peak.
    fn detection<'a>(&self, outputs: impl Source<'a>, peak: Peak) -> Result<Detection, RuntimeError> {
        let Peak { score, class, row, column, .. } = peak;
        let pair = |map: &Map| {
            let at = (row * map.size[1] + column) * 2;
            let values = outputs.values(map)?;
            Ok::<[f32; 2], RuntimeError>([values[at].value(map), values[at + 1].value(map)])
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
        Ok(Detection { class, score, bounds })
    }
}
