//! Boxes of the f32 network, by the same rules as those of the int8 one.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use resight_imaging::{ImageView, Orientation, Preprocessor};
use resight_model_file::{Activation, BoxDecoder, CenterNet, LengthUnit};
use resight_runtime::{Bounds, Detection, Head, Model};

use crate::import::import_maps;
use crate::reference::{Observation, Reference};
use crate::tasks::Decoder;

/// The f32 network behind an int8 one.
pub(super) struct FloatLocator {
    reference: Arc<Reference>,
    preprocessor: Preprocessor,
    decoder: CenterNet,
    /// Of the outputs that the decoder names, in its order.
    maps: Arc<Vec<FloatMap>>,
    /// `[height, width]` of the network's image.
    input: [usize; 2],
}

struct FloatMap {
    name: String,
    /// `[channels, height, width]`.
    shape: [usize; 3],
    is_logit: bool,
}

impl FloatLocator {
    pub(super) fn new(path: &Path, int8: &Model, threshold: f32) -> Result<Self> {
        let decoder = decoder(int8)?.clone().with_threshold(threshold);
        let size = int8.preprocessing().crop.map(|side| side as usize);
        let imported = import_maps(path, Some(size), &Decoder::Boxes(decoder.clone()).needs())?;
        let map = |output: &crate::graph::GraphOutput| FloatMap {
            name: output.name.clone(),
            shape: imported.graph.nodes[output.node].shape,
            is_logit: output.activation == Some(Activation::Sigmoid),
        };
        let maps = imported.graph.outputs.iter().map(map).collect();
        let tensor = |&node: &usize| imported.graph.nodes[node].tensor.clone();
        let tensors: Vec<String> = imported.graph.output_nodes().iter().map(tensor).collect();
        ensure!(
            imported.graph.nodes[0].shape[1..] == size,
            "{}: its image is not of the size of {}",
            path.display(),
            int8.file()
        );
        let BoxDecoder::CenterNet(decoder) = decoder;
        Ok(Self {
            reference: Arc::new(Reference::new(&imported, &tensors)?),
            preprocessor: Preprocessor::new(int8.preprocessing())?,
            decoder,
            maps: Arc::new(maps),
            input: size,
        })
    }

    pub(super) fn fork(&self) -> Result<Self> {
        Ok(Self {
            reference: self.reference.clone(),
            preprocessor: Preprocessor::new(self.preprocessor.preprocessing())?,
            decoder: self.decoder.clone(),
            maps: self.maps.clone(),
            input: self.input,
        })
    }

    /// The boxes of an image, in its pixels, the likeliest first.
    pub(super) fn boxes(&mut self, image: &ImageView<'_>) -> Result<Vec<Detection>> {
        let mut input = vec![0.0; self.preprocessor.input_len()];
        self.preprocessor.normalise(image, &mut input)?;
        let observation = self.reference.run(&input)?;
        let placement = self.preprocessor.preprocessing().placement(image.size(), Orientation::default());
        let boxes = self.decode(&observation)?.into_iter().map(|found| {
            let Bounds { left, top, right, bottom } = found.bounds;
            let [top, left] = placement.in_image([top, left]);
            let [bottom, right] = placement.in_image([bottom, right]);
            let bounds = Bounds { left, top, right, bottom }.within(placement.size());
            Detection { bounds, ..found }
        });
        Ok(boxes.collect())
    }

    fn map<'a>(&self, observation: &'a Observation, name: &str) -> Result<(&FloatMap, &'a [f32])> {
        let index = self.maps.iter().position(|map| map.name == name);
        let index = index.with_context(|| format!("there is no output `{name}`"))?;
        Ok((&self.maps[index], observation.tensor(index)))
    }

    /// What [`CenterNet`] says.
    fn decode(&self, observation: &Observation) -> Result<Vec<Detection>> {
        let (heat_map, heats) = self.map(observation, &self.decoder.heat_map)?;
        let (_, sizes) = self.map(observation, &self.decoder.size)?;
        let offsets = match &self.decoder.offset {
            Some(name) => Some(self.map(observation, name)?.1),
            None => None,
        };
        let [_, height, width] = heat_map.shape;
        let area = height * width;
        let score = |heat: f32| {
            let mut score = [heat];
            if heat_map.is_logit {
                resight_runtime::sigmoid(&mut score);
            }
            score[0]
        };
        let mut peaks: Vec<(f32, usize)> = vec![];
        for (index, &heat) in heats.iter().enumerate() {
            let (class, y, x) = (index / area, index / width % height, index % width);
            let rows = y.saturating_sub(1)..(y + 2).min(height);
            let columns = x.saturating_sub(1)..(x + 2).min(width);
            let mut around =
                rows.flat_map(|y| columns.clone().map(move |x| heats[class * area + y * width + x]));
            if score(heat) >= self.decoder.threshold && around.all(|neighbour| neighbour <= heat) {
                peaks.push((heat, index));
            }
        }
        peaks.sort_by(|a, b| b.0.total_cmp(&a.0));
        peaks.truncate(self.decoder.most);
        let cell = [self.input[0] as f32 / height as f32, self.input[1] as f32 / width as f32];
        let unit = if self.decoder.unit == LengthUnit::Cells { cell } else { [1.0; 2] };
        let mut kept: Vec<Detection> = vec![];
        for (heat, index) in peaks {
            let (class, at) = (index / area, index % area);
            let offset = |axis: usize| offsets.map_or(0.0, |offsets| offsets[axis * area + at]);
            let middle =
                [((at / width) as f32 + offset(1)) * cell[0], ((at % width) as f32 + offset(0)) * cell[1]];
            let half = [sizes[area + at] * unit[0] / 2.0, sizes[at] * unit[1] / 2.0];
            let bounds = Bounds {
                left: middle[1] - half[1],
                top: middle[0] - half[0],
                right: middle[1] + half[1],
                bottom: middle[0] + half[0],
            };
            let hidden = |better: &Detection| {
                better.class == class && better.bounds.overlap(&bounds) > self.decoder.overlap
            };
            if !kept.iter().any(hidden) {
                kept.push(Detection { class, score: score(heat), bounds });
            }
        }
        Ok(kept)
    }
}

/// The decoder of an int8 model.
fn decoder(model: &Model) -> Result<&BoxDecoder> {
    match model.head() {
        Head::Boxes(head) => Ok(head.decoder()),
        _ => anyhow::bail!("{}: the network finds no boxes; quantise it with `--task detect`", model.file()),
    }
}
