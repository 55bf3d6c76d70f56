//! What maps are, and what is common to reading them.

use resight_model_file::{Activation, LengthUnit, OutputMap, OutputNames};
use tract_nnef::internal::DatumType;

use super::classes::sigmoid;
use super::error::HeadError;
use crate::error::RuntimeError;
use crate::program::Outputs;
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
    pub(super) scale: f32,
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
        let map = Self::at(maps, outputs, index)?;
        if map.size == [1, 1] {
            return Err(HeadError::OnePlace(name.to_owned()));
        }
        Ok(map)
    }

    /// The maps of all levels that these names stand for, in their order; the last ones of a pyramid may
    /// have one place only.
    pub(super) fn levels(
        maps: &[OutputMap],
        outputs: &[TensorFact],
        names: &OutputNames,
    ) -> Result<Vec<Self>, HeadError> {
        let known = || maps.iter().map(|map| format!("`{}`", map.name)).collect();
        for name in &names.0 {
            if !maps.iter().any(|map| OutputNames::from(name.as_str()).has(&map.name)) {
                return Err(HeadError::Unknown { name: name.clone(), known: known() });
            }
        }
        let mut found: Vec<((usize, usize), usize)> = maps
            .iter()
            .enumerate()
            .filter_map(|(index, map)| Some((names.place(&map.name)?, index)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, index)| Self::at(maps, outputs, index)).collect()
    }

    fn at(maps: &[OutputMap], outputs: &[TensorFact], index: usize) -> Result<Self, HeadError> {
        let map = &maps[index];
        let count = HeadError::Count { described: maps.len(), found: outputs.len() };
        let fact = outputs.get(index).ok_or(count)?;
        let &[1, height, width, channels] = fact.shape.as_slice() else {
            return Err(HeadError::NoMap { name: map.name.clone(), found: fact.clone() });
        };
        let mut values: Vec<f32> = (-128..128).map(|q| map.scale * (q - map.zero_point) as f32).collect();
        if map.activation == Some(Activation::Sigmoid) {
            sigmoid(&mut values);
        }
        Ok(Self {
            index,
            name: map.name.clone(),
            size: [height, width],
            channels,
            values,
            activation: map.activation,
            scale: map.scale,
            zero_point: map.zero_point,
        })
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

    /// Refuses what does not end in this, or in nothing where `None`.
    pub(super) fn ends_in(&self, activation: Activation) -> Result<(), HeadError> {
        match self.activation {
            Some(own) if own != activation => {
                Err(HeadError::Activation { name: self.name.clone(), activation: own })
            }
            _ => Ok(()),
        }
    }

    /// Pixels of the network's image, `[height, width]`, in a cell, `[vertical, horizontal]`.
    pub(super) fn cell(&self, input: [usize; 2]) -> [f32; 2] {
        [0, 1].map(|axis| input[axis] as f32 / self.size[axis] as f32)
    }

    /// Row and column of the place with this number.
    pub(super) fn place(&self, place: usize) -> (usize, usize) {
        (place / self.size[1], place % self.size[1])
    }

    /// The least value that stands for at least this probability.
    pub(super) fn least(&self, probability: f32) -> Least {
        let index = self.values.iter().position(|&value| value >= probability);
        Least { byte: index.map_or(128, |index| index as i16 - 128), real: probability }
    }
}

/// Refuses another number of maps than one for each level.
pub(super) fn expect_levels(names: &OutputNames, found: usize, expected: usize) -> Result<(), HeadError> {
    if found == expected {
        return Ok(());
    }
    Err(HeadError::Levels { names: names.to_string(), found, expected })
}

/// Pixels in what lengths are counted in, where a cell is `cell` pixels; `[vertical, horizontal]`.
pub(super) fn unit(unit: LengthUnit, cell: [f32; 2]) -> [f32; 2] {
    match unit {
        LengthUnit::Cells => cell,
        LengthUnit::Pixels => [1.0; 2],
    }
}

/// The real number at `index` of a map's values. What is not there was looked for when scores were looked at.
pub(super) fn real(values: &[impl Element], index: usize, map: &Map) -> f32 {
    values.get(index).map_or(0.0, |value| value.value(map))
}

/// The least value of a map that is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Least {
    /// 128 if no byte is large enough.
    byte: i16,
    /// After the sigmoid, where the map ends in one.
    real: f32,
}

/// A value of a map: a byte, or the real number that one could stand for.
pub(super) trait Element: Copy + PartialOrd + std::fmt::Debug {
    /// Whether it is at least as large.
    fn reaches(self, least: Least, map: &Map) -> bool;

    /// The real number, after a sigmoid where the map ends in one.
    fn value(self, map: &Map) -> f32;

    /// By how much the real number before an activation is larger than that of `other`.
    fn over(self, other: Self, map: &Map) -> f32;

    /// Orders values as they are.
    fn key(self) -> f32;
}

impl Element for i8 {
    #[inline]
    fn reaches(self, least: Least, _: &Map) -> bool {
        i16::from(self) >= least.byte
    }

    fn value(self, map: &Map) -> f32 {
        map.values[(i32::from(self) + 128) as usize]
    }

    #[inline]
    fn over(self, other: Self, map: &Map) -> f32 {
        map.scale * f32::from(i16::from(self) - i16::from(other))
    }

    fn key(self) -> f32 {
        f32::from(self)
    }
}

impl Element for f32 {
    fn reaches(self, least: Least, map: &Map) -> bool {
        self.value(map) >= least.real
    }

    fn value(self, map: &Map) -> f32 {
        let mut value = [self];
        if map.activation == Some(Activation::Sigmoid) {
            sigmoid(&mut value);
        }
        value[0]
    }

    fn over(self, other: Self, _: &Map) -> f32 {
        self - other
    }

    fn key(self) -> f32 {
        self
    }
}

/// Where the values of maps come from.
pub(super) trait Source<'a>: Copy {
    /// What they are.
    type Value: Element + 'a;

    /// The values of a map, `[height][width][channels]`.
    fn values(self, map: &Map) -> Result<&'a [Self::Value], RuntimeError>;
}

/// The int8 network's outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) Outputs<'a>);

impl<'a> Source<'a> for Bytes<'a> {
    type Value = i8;

    fn values(self, map: &Map) -> Result<&'a [i8], RuntimeError> {
        let output = self.0.get(map.index);
        let output = output.ok_or_else(|| missing(map))?;
        fitting(output.slice::<i8>()?, map)
    }
}

/// Real numbers for each output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reals<'a>(pub(super) &'a [&'a [f32]]);

impl<'a> Source<'a> for Reals<'a> {
    type Value = f32;

    fn values(self, map: &Map) -> Result<&'a [f32], RuntimeError> {
        fitting(self.0.get(map.index).ok_or_else(|| missing(map))?, map)
    }
}

fn missing(map: &Map) -> RuntimeError {
    RuntimeError::Graph(format!("there is no output `{}`", map.name))
}

fn fitting<'a, T>(values: &'a [T], map: &Map) -> Result<&'a [T], RuntimeError> {
    if values.len() == map.size[0] * map.size[1] * map.channels {
        return Ok(values);
    }
    Err(RuntimeError::Graph(format!("the output `{}` is of another network", map.name)))
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
