//! Boxes of the f32 network, by the same rules as those of the int8 one.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use resight_imaging::{ImageView, Orientation, Preprocessor};
use resight_model_file::BoxDecoder;
use resight_runtime::{Bounds, BoxHead, Detection, Detections, Head, Model};

use crate::reference::Reference;
use crate::tasks::Decoder;

/// The f32 network behind an int8 one.
pub(super) struct FloatLocator {
    reference: Arc<Reference>,
    preprocessor: Preprocessor,
    head: Arc<BoxHead>,
    detections: Detections,
    /// `[channels, height, width]` of the outputs.
    shapes: Arc<Vec<[usize; 3]>>,
}

impl FloatLocator {
    pub(super) fn new(path: &Path, int8: &Model, threshold: f32) -> Result<Self> {
        let decoder = Decoder::Boxes(decoder(int8)?.clone().with_threshold(threshold));
        let size = int8.preprocessing().crop.map(|side| side as usize);
        let imported = decoder.import(path, Some(size))?;
        ensure!(
            imported.graph.nodes[0].shape[1..] == size,
            "{}: its image is not of the size of {}",
            path.display(),
            int8.file()
        );
        let Head::Boxes(head) = decoder.head(&imported.graph, path)? else {
            bail!("{}: its decoder makes no boxes", int8.file());
        };
        let outputs = imported.graph.output_nodes();
        let tensors: Vec<String> =
            outputs.iter().map(|&node| imported.graph.nodes[node].tensor.clone()).collect();
        let shapes = outputs.iter().map(|&node| imported.graph.nodes[node].shape).collect();
        Ok(Self {
            reference: Arc::new(Reference::new(&imported, &tensors)?),
            preprocessor: Preprocessor::new(int8.preprocessing())?,
            detections: head.memory(),
            head: Arc::new(head),
            shapes: Arc::new(shapes),
        })
    }

    pub(super) fn fork(&self) -> Result<Self> {
        Ok(Self {
            reference: self.reference.clone(),
            preprocessor: Preprocessor::new(self.preprocessor.preprocessing())?,
            detections: self.head.memory(),
            head: self.head.clone(),
            shapes: self.shapes.clone(),
        })
    }

    /// The boxes of an image, in its pixels, the likeliest first.
    pub(super) fn boxes(&mut self, image: &ImageView<'_>) -> Result<Vec<Detection>> {
        let mut input = vec![0.0; self.preprocessor.input_len()];
        self.preprocessor.normalise(image, &mut input)?;
        let observation = self.reference.run(&input)?;
        let channels_last = |(output, &[channels, height, width]): (usize, &[usize; 3])| {
            let (values, area) = (observation.tensor(output), height * width);
            (0..values.len()).map(|at| values[at % channels * area + at / channels]).collect()
        };
        let maps: Vec<Vec<f32>> = self.shapes.iter().enumerate().map(channels_last).collect();
        let maps: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
        self.head.decode_reals(&maps, &mut self.detections)?;
        let placement = self.preprocessor.preprocessing().placement(image.size(), Orientation::default());
        let placed = |found: &Detection| {
            let Bounds { left, top, right, bottom } = found.bounds;
            let [top, left] = placement.in_image([top, left]);
            let [bottom, right] = placement.in_image([bottom, right]);
            let bounds = Bounds { left, top, right, bottom }.within(placement.size());
            Detection { bounds, ..*found }
        };
        Ok(self.detections.boxes().iter().map(placed).collect())
    }
}

/// The decoder of an int8 model.
fn decoder(model: &Model) -> Result<&BoxDecoder> {
    match model.head() {
        Head::Boxes(head) => Ok(head.decoder()),
        _ => bail!("{}: the network finds no boxes; quantise it with `--task detect`", model.file()),
    }
}
