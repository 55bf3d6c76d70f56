//! The maps that a network gives, by their names.

use resight_model_file::{Activation, DecoderError, OutputMap};
use tract_nnef::internal::DatumType;

use super::classes::sigmoid;
use crate::tensors::TensorFact;

/// Why outputs are not what a task needs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HeadError {
    /// Those of a classifier.
    #[error("{0}")]
    Classes(String),
    /// The task describes more or fewer outputs than there are.
    #[error("task.json describes {described} outputs, the network has {found}")]
    Count {
        /// In the task.
        described: usize,
        /// In the network.
        found: usize,
    },
    /// An output is no int8 map.
    #[error("the output `{name}` is {found}, not an int8 map of [1, height, width, channels]")]
    NoMap {
        /// Its name.
        name: String,
        /// Its shape and type.
        found: TensorFact,
    },
    /// The steps of an output are worth nothing.
    #[error("the output `{name}` has the scale {scale} and the zero point {zero_point}")]
    Steps {
        /// Its name.
        name: String,
        /// Its scale.
        scale: f32,
        /// Its zero point.
        zero_point: i32,
    },
    /// The task names an output that there is not.
    #[error("there is no output `{name}`; there are {}; say by `--decoder` what each is for", known.join(", "))]
    Unknown {
        /// What is named.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A map has another number of channels than its use needs.
    #[error("the output `{name}` has {found} channels, expected {expected}")]
    Channels {
        /// Its name.
        name: String,
        /// How many there are.
        found: usize,
        /// How many are needed, and what for.
        expected: String,
    },
    /// Maps that belong together are of several sizes.
    #[error("the output `{name}` is of {found:?} cells, expected {expected:?} as `{other}`")]
    Size {
        /// Its name.
        name: String,
        /// `[height, width]`.
        found: [usize; 2],
        /// The other's.
        expected: [usize; 2],
        /// The other's name.
        other: String,
    },
    /// A map of single values ends in what is made of all channels together, or the reverse.
    #[error("the output `{name}` ends in {activation}, which its use in the decoder does not take")]
    Activation {
        /// Its name.
        name: String,
        /// What it ends in.
        activation: Activation,
    },
    /// The colours are not one for each class.
    #[error("there are {found} colours for {expected} classes")]
    Colours {
        /// How many there are.
        found: usize,
        /// How many classes there are.
        expected: usize,
    },
    /// See [`DecoderError`].
    #[error(transparent)]
    Decoder(#[from] DecoderError),
}

/// A map and its place among the outputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Map {
    pub(super) index: usize,
    pub(super) name: String,
    /// `[height, width]`.
    pub(super) size: [usize; 2],
    pub(super) channels: usize,
    /// The real number that each byte stands for, after a sigmoid where it ends in one; from -128 on.
    pub(super) values: Vec<f32>,
    pub(super) activation: Option<Activation>,
    pub(super) zero_point: i32,
}

impl Map {
    /// The map `name` of these.
    pub(super) fn find(maps: &[OutputMap], outputs: &[TensorFact], name: &str) -> Result<Self, HeadError> {
        let unknown = || HeadError::Unknown {
            name: name.to_owned(),
            known: maps.iter().map(|map| format!("`{}`", map.name)).collect(),
        };
        let index = maps.iter().position(|map| map.name == name).ok_or_else(unknown)?;
        let (map, fact) = (&maps[index], outputs.get(index).ok_or_else(unknown)?);
        let &[1, height, width, channels] = fact.shape.as_slice() else {
            return Err(HeadError::NoMap { name: name.to_owned(), found: fact.clone() });
        };
        let mut values: Vec<f32> = (-128..128).map(|q| map.scale * (q - map.zero_point) as f32).collect();
        if map.activation == Some(Activation::Sigmoid) {
            sigmoid(&mut values);
        }
        Ok(Self {
            index,
            name: name.to_owned(),
            size: [height, width],
            channels,
            values,
            activation: map.activation,
            zero_point: map.zero_point,
        })
    }

    /// The real number that a byte stands for.
    pub(super) fn value(&self, q: i8) -> f32 {
        self.values[(i32::from(q) + 128) as usize]
    }

    /// Refuses another number of channels.
    pub(super) fn expect(&self, channels: usize, purpose: &str) -> Result<(), HeadError> {
        if self.channels == channels {
            return Ok(());
        }
        let expected = format!("{channels}: {purpose}");
        Err(HeadError::Channels { name: self.name.clone(), found: self.channels, expected })
    }

    /// Refuses another size than that of the map that it belongs to.
    pub(super) fn same_size(&self, other: &Self) -> Result<(), HeadError> {
        if self.size == other.size {
            return Ok(());
        }
        Err(HeadError::Size {
            name: self.name.clone(),
            found: self.size,
            expected: other.size,
            other: other.name.clone(),
        })
    }
}

/// Refuses outputs that are not the int8 maps that a task describes.
pub(super) fn check(maps: &[OutputMap], outputs: &[TensorFact]) -> Result<(), HeadError> {
    if maps.len() != outputs.len() {
        return Err(HeadError::Count { described: maps.len(), found: outputs.len() });
    }
    for (map, fact) in maps.iter().zip(outputs) {
        if fact.datum_type != DatumType::I8 || fact.shape.len() != 4 || fact.shape[0] != 1 {
            return Err(HeadError::NoMap { name: map.name.clone(), found: fact.clone() });
        }
        let is_worth_something = map.scale.is_finite() && map.scale > 0.0;
        if !is_worth_something || !(-128..=127).contains(&map.zero_point) {
            let OutputMap { name, scale, zero_point, .. } = map.clone();
            return Err(HeadError::Steps { name, scale, zero_point });
        }
    }
    Ok(())
}
