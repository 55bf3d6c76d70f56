//! The parts of a TFLite file that a network is made of. Numbers of fields, operators and types are those
//! of `tensorflow/lite/schema/schema.fbs`, version 3.

use std::ops::RangeInclusive;

use super::fault::{ContentFault, FileFault};
use super::flatbuffer::Table;
use crate::import::limits::{MAX_WEIGHTS, elements};

/// Most tensors and most operators of a file.
const MAX_PARTS: usize = 1 << 16;

/// The type of a tensor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Int8,
    Uint8,
    Int32,
    Int64,
    /// Any other, by its number.
    Other(i8),
}

impl Kind {
    fn of(number: i8) -> Kind {
        match number {
            0 => Kind::Float,
            2 => Kind::Int32,
            3 => Kind::Uint8,
            4 => Kind::Int64,
            9 => Kind::Int8,
            other => Kind::Other(other),
        }
    }

    /// Bytes of one number.
    pub(super) fn size(self) -> usize {
        match self {
            Kind::Int8 | Kind::Uint8 => 1,
            Kind::Int64 => 8,
            _ => 4,
        }
    }

    /// The zero points that its integers can have: those of 8 bits are among them, and a bias has none.
    fn zero_points(self) -> RangeInclusive<i64> {
        match self {
            Kind::Int8 => -128..=127,
            Kind::Uint8 => 0..=255,
            Kind::Int32 | Kind::Int64 => 0..=0,
            Kind::Float | Kind::Other(_) => i64::MIN..=i64::MAX,
        }
    }

    /// As messages have it.
    pub(super) fn name(self) -> String {
        match self {
            Kind::Float => "float32".into(),
            Kind::Int8 => "int8".into(),
            Kind::Uint8 => "uint8".into(),
            Kind::Int32 => "int32".into(),
            Kind::Int64 => "int64".into(),
            Kind::Other(1) => "float16".into(),
            Kind::Other(7) => "int16".into(),
            Kind::Other(17) => "int4".into(),
            Kind::Other(number) => format!("number {number}"),
        }
    }
}

/// What the integers of a tensor stand for: `scale * (q - zero_point)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Steps {
    pub(super) scales: Vec<f32>,
    pub(super) zero_points: Vec<i64>,
    /// The axis that scales lie along, where there are several.
    pub(super) axis: usize,
}

/// A tensor.
#[derive(Debug, Clone)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<usize>,
    pub(super) kind: Kind,
    pub(super) steps: Option<Steps>,
    /// The values of a constant.
    pub(super) data: Option<&'a [u8]>,
}

/// An operator.
#[derive(Debug, Clone)]
pub(super) struct Operator<'a> {
    /// Its number in the file.
    pub(super) index: usize,
    pub(super) code: i32,
    /// The name of one that TFLite itself does not have.
    pub(super) custom: &'a str,
    pub(super) inputs: Vec<i32>,
    pub(super) outputs: Vec<i32>,
    pub(super) options: Option<Table<'a>>,
}

/// A network.
#[derive(Debug)]
pub(super) struct Network<'a> {
    pub(super) name: &'a str,
    pub(super) tensors: Vec<Tensor<'a>>,
    pub(super) operators: Vec<Operator<'a>>,
    pub(super) inputs: Vec<i32>,
    pub(super) outputs: Vec<i32>,
}

impl<'a> Network<'a> {
    /// Reads the first network of a file.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Network<'a>, FileFault> {
        let model = Table::root(bytes)?;
        let version: u32 = model.number(0, 0)?;
        if version != 3 {
            return Err(FileFault::Version(version));
        }
        let buffers = model.tables(4)?;
        let graphs = model.tables(2)?;
        let graph = graphs.first().ok_or(FileFault::Empty)?;
        let tables = graph.tables(0)?;
        let operators = graph.tables(3)?;
        let parts = tables.len().max(operators.len());
        if parts > MAX_PARTS {
            return Err(FileFault::Parts(parts));
        }
        let mut values = 0usize;
        let mut tensors = Vec::with_capacity(tables.len());
        for (index, table) in tables.iter().enumerate() {
            let tensor = tensor(bytes, table, &buffers, index)?;
            // Many tensors may share one buffer.
            values = values.saturating_add(tensor.data.map_or(0, |data| data.len() / tensor.kind.size()));
            tensors.push(tensor);
        }
        if values > MAX_WEIGHTS {
            return Err(FileFault::Weights);
        }
        let codes = model.tables(1)?;
        let operators = operators.iter().enumerate().map(|(index, table)| operator(table, &codes, index));
        Ok(Network {
            name: graph.text(4)?,
            tensors,
            operators: operators.collect::<Result<_, _>>()?,
            inputs: graph.numbers(1)?,
            outputs: graph.numbers(2)?,
        })
    }

    /// The tensor of a number in the file; -1 stands for one that is left out.
    pub(super) fn tensor(&self, index: i32) -> Option<&Tensor<'a>> {
        usize::try_from(index).ok().and_then(|index| self.tensors.get(index))
    }
}

fn tensor<'a>(
    bytes: &'a [u8],
    table: &Table<'a>,
    buffers: &[Table<'a>],
    index: usize,
) -> Result<Tensor<'a>, FileFault> {
    let name = table.text(3)?;
    let fault = |cause: ContentFault| FileFault::Tensor { index, name: name.into(), cause };
    let dims: Vec<usize> = table
        .numbers::<i32>(0)?
        .into_iter()
        .map(|size| usize::try_from(size).map_err(|_| fault(ContentFault::Size(size))))
        .collect::<Result<_, _>>()?;
    let count = elements(&dims).map_err(|limit| fault(limit.into()))?;
    let kind = Kind::of(table.number(1, 0)?);
    let buffer: u32 = table.number(2, 0)?;
    // The first buffer is that of tensors without values.
    let data = match buffers.get(buffer as usize).filter(|_| buffer > 0) {
        None if buffer > 0 => return Err(fault(ContentFault::Buffer(buffer))),
        None => None,
        Some(buffer) => Some(values(bytes, buffer)?.ok_or_else(|| fault(ContentFault::Behind))?),
    };
    let data = data.filter(|data| !data.is_empty());
    if let (Some(data), Kind::Float | Kind::Int8 | Kind::Uint8 | Kind::Int32 | Kind::Int64) = (data, kind)
        && data.len() != count * kind.size()
    {
        let (found, expected) = (data.len(), count * kind.size());
        return Err(fault(ContentFault::Bytes { found, dims, expected }));
    }
    let steps =
        table.table(4)?.map(|table| steps(&table)).transpose()?.filter(|steps| !steps.scales.is_empty());
    if let Some(steps) = &steps {
        let is_usable = |scale: &&f32| !(scale.is_normal() && **scale > 0.0);
        if let Some(scale) = steps.scales.iter().find(is_usable) {
            return Err(fault(ContentFault::Scale(*scale)));
        }
        let several = steps.scales.len() > 1;
        if steps.zero_points.len() != steps.scales.len()
            || (several && dims.get(steps.axis) != Some(&steps.scales.len()))
        {
            let (scales, zero_points, axis) = (steps.scales.len(), steps.zero_points.len(), steps.axis);
            return Err(fault(ContentFault::Scales { scales, zero_points, axis, dims }));
        }
        let zero = steps.zero_points.iter().find(|zero| !kind.zero_points().contains(zero));
        if let Some(&zero) = zero {
            return Err(fault(ContentFault::ZeroPoint { zero, kind: kind.name() }));
        }
    }
    Ok(Tensor { name, dims, kind, steps, data })
}

/// The bytes of a buffer, which may lie behind the tables; `None` where the file is shorter.
fn values<'a>(bytes: &'a [u8], buffer: &Table<'a>) -> Result<Option<&'a [u8]>, FileFault> {
    let (offset, size): (u64, u64) = (buffer.number(1, 0)?, buffer.number(2, 0)?);
    if offset <= 1 {
        return Ok(Some(buffer.bytes(0)?));
    }
    let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
    Ok(range.and_then(|(offset, size)| bytes.get(offset..offset.checked_add(size)?)))
}

fn steps(table: &Table<'_>) -> Result<Steps, FileFault> {
    let scales: Vec<f32> = table.numbers(2)?;
    let mut zero_points: Vec<i64> = table.numbers(3)?;
    if let &[zero] = zero_points.as_slice() {
        zero_points = vec![zero; scales.len()];
    } else if zero_points.is_empty() {
        zero_points = vec![0; scales.len()];
    }
    let axis: i32 = table.number(6, 0)?;
    Ok(Steps { scales, zero_points, axis: usize::try_from(axis).unwrap_or(usize::MAX) })
}

fn operator<'a>(table: &Table<'a>, codes: &[Table<'a>], index: usize) -> Result<Operator<'a>, FileFault> {
    let code: u32 = table.number(0, 0)?;
    let code = codes.get(code as usize).ok_or(FileFault::Code { index, code })?;
    // Files of before 2020 have the first one alone.
    let (old, new): (i8, i32) = (code.number(0, 0)?, code.number(3, 0)?);
    Ok(Operator {
        index,
        code: new.max(old.into()),
        custom: code.text(1)?,
        inputs: table.numbers(1)?,
        outputs: table.numbers(2)?,
        options: table.table(4)?,
    })
}
