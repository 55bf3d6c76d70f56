//! From maps to boxes.

use resight_model_file::{BoxDecoder, OutputMap};

use super::anchors::AnchorMaps;
use super::bounds::Detection;
use super::centernet::{Peak, Peaks};
use super::error::HeadError;
use super::fcos::FcosMaps;
use super::maps::{Bytes, Reals, Source, check};
use super::suppression::Candidates;
use crate::error::RuntimeError;
use crate::program::Outputs;
use crate::tensors::TensorFact;

/// The head of a network whose maps boxes are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxHead {
    maps: Vec<OutputMap>,
    decoder: BoxDecoder,
    found: FoundMaps,
}

/// The maps of a decoder, found among the outputs.
#[derive(Debug, Clone, PartialEq)]
enum FoundMaps {
    CenterNet(Box<Peaks>),
    Anchors(AnchorMaps),
    Fcos(FcosMaps),
}

/// The boxes of an image, and the memory to find them in: made once, it grows no more.
#[derive(Debug, Default)]
pub struct Detections {
    peaks: Vec<Peak>,
    candidates: Candidates,
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
        let found = match &decoder {
            BoxDecoder::CenterNet(centernet) => {
                FoundMaps::CenterNet(Box::new(Peaks::new(&maps, centernet, outputs, input)?))
            }
            BoxDecoder::Anchors(anchors) => {
                FoundMaps::Anchors(AnchorMaps::new(&maps, anchors, outputs, input)?)
            }
            BoxDecoder::Fcos(fcos) => FoundMaps::Fcos(FcosMaps::new(&maps, fcos, outputs, input)?),
        };
        Ok(Self { maps, decoder, found })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match &self.found {
            FoundMaps::CenterNet(peaks) => peaks.classes(),
            FoundMaps::Anchors(anchors) => anchors.classes(),
            FoundMaps::Fcos(fcos) => fcos.classes(),
        }
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
        match &mut self.found {
            FoundMaps::CenterNet(peaks) => peaks.set_threshold(threshold),
            FoundMaps::Anchors(anchors) => anchors.set_threshold(threshold),
            FoundMaps::Fcos(fcos) => fcos.set_threshold(threshold),
        }
        self
    }

    /// Memory for the boxes of images.
    pub fn memory(&self) -> Detections {
        let (most, candidates) = (self.decoder.most(), self.decoder.candidates());
        let (peaks, candidates) = match &self.found {
            // One more while the least likely is not left out yet.
            FoundMaps::CenterNet(_) => (Vec::with_capacity(most + 1), Candidates::default()),
            FoundMaps::Anchors(_) | FoundMaps::Fcos(_) => (vec![], Candidates::new(candidates)),
        };
        Detections { peaks, candidates, found: Vec::with_capacity(most) }
    }

    /// Finds the boxes in the outputs of a run. Allocates nothing with [`memory`](Self::memory).
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode(&self, outputs: Outputs<'_>, into: &mut Detections) -> Result<(), RuntimeError> {
        self.decode_from(Bytes(outputs), into)
    }

    /// Finds the boxes in real numbers, such as those of the f32 network: for each output, before its
    /// activation, `[height][width][channels]`.
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode_reals(&self, outputs: &[&[f32]], into: &mut Detections) -> Result<(), RuntimeError> {
        self.decode_from(Reals(outputs), into)
    }

    fn decode_from<'a>(&self, outputs: impl Source<'a>, into: &mut Detections) -> Result<(), RuntimeError> {
        let Detections { peaks, candidates, found } = into;
        found.clear();
        match &self.found {
            FoundMaps::CenterNet(maps) => maps.decode(outputs, peaks, found),
            FoundMaps::Anchors(maps) => maps.decode(outputs, candidates, found),
            FoundMaps::Fcos(maps) => maps.decode(outputs, candidates, found),
        }
    }
}
