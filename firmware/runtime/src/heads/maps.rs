//! The maps that a network gives, by their names.

use resight_model_file::{Activation, OutputMap};
use tract_nnef::internal::DatumType;

use super::classes::sigmoid;
use super::error::HeadError;
use crate::tensors::TensorFact;

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
        if [height, width] == [1, 1] {
            return Err(HeadError::OnePlace(name.to_owned()));
        }
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
