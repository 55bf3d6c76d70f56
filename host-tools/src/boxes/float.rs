//! Boxes of the f32 network, by the same rules as those of the int8 one.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use resight_imaging::{ImageView, Orientation};
use resight_model_file::BoxDecoder;
use resight_runtime::{Bounds, BoxHead, Detection, Detections, Head, Model};

use crate::float_maps::FloatMaps;
use crate::tasks::Decoder;

/// The f32 network behind an int8 one.
pub(super) struct FloatLocator {
    maps: FloatMaps,
    head: Arc<BoxHead>,
    detections: Detections,
}

impl FloatLocator {
    pub(super) fn new(path: &Path, int8: &Model, threshold: f32) -> Result<Self> {
        let decoder = Decoder::Boxes(decoder(int8)?.clone().with_threshold(threshold));
        let (maps, Head::Boxes(head)) = FloatMaps::new(path, int8, &decoder)? else {
            bail!("{}: its decoder makes no boxes", int8.file());
        };
        Ok(Self { maps, detections: head.memory(), head: Arc::new(head) })
    }

    pub(super) fn fork(&self) -> Result<Self> {
        Ok(Self { maps: self.maps.fork()?, detections: self.head.memory(), head: self.head.clone() })
    }

    /// The boxes of an image, in its pixels, the likeliest first.
    pub(super) fn boxes(&mut self, image: &ImageView<'_>) -> Result<Vec<Detection>> {
        let maps = self.maps.run(image)?;
        let maps: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
        self.head.decode_reals(&maps, &mut self.detections)?;
        let preprocessing = self.maps.preprocessor().preprocessing();
        let placement = preprocessing.placement(image.size(), Orientation::default());
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
