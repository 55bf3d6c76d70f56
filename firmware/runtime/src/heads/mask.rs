//! From a map of scores to the class of each position.

use resight_model_file::{Activation, OutputMap};

use super::error::HeadError;
use super::maps::{Bytes, Map, Reals, Source, check};
use crate::error::RuntimeError;
use crate::program::Outputs;
use crate::tensors::TensorFact;

/// Most classes of a mask: a byte holds its number.
const MAX_CLASSES: usize = 256;

/// The head of a network that gives a score of each class at each position.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskHead {
    maps: Vec<OutputMap>,
    map: Map,
    colours: Vec<[u8; 3]>,
}

impl MaskHead {
    /// The head for these outputs, of which `map` has the scores. A map of one channel is of two
    /// classes: the second where the score, which the sigmoid is taken of, is above zero.
    ///
    /// # Errors
    /// Outputs that are no such maps.
    pub fn new(
        maps: Vec<OutputMap>,
        map: &str,
        colours: Vec<[u8; 3]>,
        outputs: &[TensorFact],
    ) -> Result<Self, HeadError> {
        check(&maps, outputs)?;
        let map = Map::find(&maps, outputs, map)?;
        if map.channels > MAX_CLASSES {
            let expected = format!("{MAX_CLASSES} classes at most");
            return Err(HeadError::Channels { name: map.name, found: map.channels, expected });
        }
        if map.channels == 1 && map.activation == Some(Activation::Softmax) {
            return Err(HeadError::Activation { name: map.name, activation: Activation::Softmax });
        }
        let head = Self { maps, map, colours };
        let (found, expected) = (head.colours.len(), head.classes());
        if found != 0 && found != expected {
            return Err(HeadError::Colours { found, expected });
        }
        Ok(head)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.map.channels.max(2)
    }

    /// Whether the map has one channel: of its two classes the first is what the second is not.
    pub fn is_binary(&self) -> bool {
        self.map.channels == 1
    }

    /// `[height, width]` of the mask.
    pub fn size(&self) -> [usize; 2] {
        self.map.size
    }

    /// What the outputs are.
    pub fn maps(&self) -> &[OutputMap] {
        &self.maps
    }

    /// The name of the output that has the scores.
    pub fn map(&self) -> &str {
        &self.map.name
    }

    /// The colours that somebody has chosen; none otherwise.
    pub fn colours(&self) -> &[[u8; 3]] {
        &self.colours
    }

    /// The colour of a class, red, green and blue: what was chosen, or else that of the Pascal VOC
    /// colour map, whose bits are those of the class's number, three at a time, from the highest bit
    /// of the colours down.
    pub fn colour(&self, class: usize) -> [u8; 3] {
        self.colours.get(class).copied().unwrap_or_else(|| {
            let bit = |channel: usize| {
                let bits = (0..8).map(|place| ((class >> (3 * place + channel)) & 1) << (7 - place));
                bits.sum::<usize>() as u8
            };
            [bit(0), bit(1), bit(2)]
        })
    }

    /// The likeliest class of each position, `[height][width]`; of equals the first. Allocates nothing
    /// into a mask that was filled before.
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode(&self, outputs: Outputs<'_>, mask: &mut Vec<u8>) -> Result<(), RuntimeError> {
        self.fill(Bytes(outputs), |score| i32::from(score) > self.map.zero_point, mask)
    }

    /// The likeliest class of each position in real numbers, such as those of the f32 network: for each
    /// output, before its activation, `[height][width][channels]`.
    ///
    /// # Errors
    /// Outputs of another network.
    pub fn decode_reals(&self, outputs: &[&[f32]], mask: &mut Vec<u8>) -> Result<(), RuntimeError> {
        self.fill(Reals(outputs), |score| score > 0.0, mask)
    }

    fn fill<'a, S: Source<'a>>(
        &self,
        outputs: S,
        is_there: impl Fn(S::Value) -> bool,
        mask: &mut Vec<u8>,
    ) -> Result<(), RuntimeError> {
        let scores = outputs.values(&self.map)?;
        mask.clear();
        if self.is_binary() {
            mask.extend(scores.iter().map(|&score| u8::from(is_there(score))));
            return Ok(());
        }
        let likeliest = |scores: &[S::Value]| {
            let mut best = 0;
            for (class, score) in scores.iter().enumerate() {
                if *score > scores[best] {
                    best = class;
                }
            }
            best as u8
        };
        mask.extend(scores.chunks_exact(self.map.channels).map(likeliest));
        Ok(())
    }
}
