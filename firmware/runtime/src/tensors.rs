//! The values that layers read and write: bytes with a type and a shape.

use std::fmt;
use std::ops::Range;

use resight_kernels::{KernelError, Strided, StridedMut};
use tract_nnef::internal::*;

use crate::arena::CACHE_LINE;

/// A number that a tensor can hold: `i8`, `i16`, `i32`, `f32` and their kind.
pub trait Element: Datum + bytemuck::Pod {}

impl<T: Datum + bytemuck::Pod> Element for T {}

/// The type and the shape of a tensor, both known before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorFact {
    /// The type of its elements.
    pub datum_type: DatumType,
    /// Its dimensions, the first of which is a batch of 1.
    pub shape: Vec<usize>,
}

impl TensorFact {
    /// A tensor of this type and shape.
    pub fn new(datum_type: DatumType, shape: &[usize]) -> Self {
        Self { datum_type, shape: shape.to_vec() }
    }

    /// An int8 activation `[1, height, width, channels]`.
    pub fn activation([height, width, channels]: [usize; 3]) -> Self {
        Self::new(DatumType::I8, &[1, height, width, channels])
    }

    /// What tract knows of a value.
    ///
    /// # Errors
    /// A dimension that is not a number.
    pub fn of(fact: &TypedFact) -> TractResult<Self> {
        let shape = fact.shape.as_concrete().context("an int8 network has a fixed input size")?;
        Ok(Self::new(fact.datum_type, shape))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.len() * self.datum_type.size_of()
    }

    /// The shape of an input of the expected type.
    ///
    /// # Errors
    /// Another type.
    pub fn expect(&self, datum_type: DatumType) -> TractResult<&[usize]> {
        ensure!(
            self.datum_type == datum_type,
            "expected an input of {datum_type:?}, found {:?}",
            self.datum_type
        );
        Ok(&self.shape)
    }

    /// `[height, width, channels]` of an int8 activation with a batch of one.
    ///
    /// # Errors
    /// Another type or shape.
    pub fn image(&self) -> TractResult<[usize; 3]> {
        match *self.expect(DatumType::I8)? {
            [1, height, width, channels] => Ok([height, width, channels]),
            ref shape => {
                bail!("expected an activation of shape [1, height, width, channels], found {shape:?}")
            }
        }
    }
}

impl fmt::Display for TensorFact {
    /// Such as `1x5x4x8 I8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{} {:?}", sides.join("x"), self.datum_type)
    }
}

/// A value of a compiled program: what it is and where it lies in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Type and shape.
    pub fact: TensorFact,
    /// Its bytes in the arena; of a value that is part of another one, those of the other one.
    pub(crate) range: Range<usize>,
    /// What part of another value it is.
    pub(crate) part: Option<Part>,
}

/// Channels of an image that has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The first of them.
    pub(crate) first: usize,
    /// How many the image has.
    pub(crate) stride: usize,
}

/// A value is read or written as a whole by what takes it only so.
fn not_whole() -> KernelError {
    KernelError::Invalid("a tensor that is part of another one is taken as a whole".to_owned())
}

/// The channels of a value, and what part it is of an image.
fn channels(shape: &[usize], part: Option<Part>) -> (usize, Part) {
    let channels = shape.last().copied().unwrap_or(1);
    (channels, part.unwrap_or(Part { first: 0, stride: channels }))
}

impl Value {
    /// Some rows of an image.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let mut fact = self.fact.clone();
        let row = self.range.len() / fact.shape[1];
        fact.shape[1] = rows.len();
        let range = self.range.start + rows.start * row..self.range.start + rows.end * row;
        Self { fact, range, part: self.part }
    }
}

/// A tensor that can be read.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// The type of its elements.
    pub datum_type: DatumType,
    /// Its dimensions.
    pub shape: &'a [usize],
    /// Its elements in the machine's byte order, row by row.
    pub bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// A tensor of tract.
    ///
    /// # Errors
    /// One that is not in plain memory.
    pub(crate) fn of(tensor: &'a Tensor) -> TractResult<Self> {
        let bytes = tensor.try_as_plain_ram()?.as_bytes();
        Ok(Self { datum_type: tensor.datum_type(), shape: tensor.shape(), bytes })
    }

    /// The elements.
    ///
    /// # Errors
    /// They are of another type.
    pub fn slice<T: Element>(&self) -> Result<&'a [T], KernelError> {
        check_type::<T>(self.datum_type)?;
        bytemuck::try_cast_slice(self.bytes).map_err(misplaced)
    }
}

impl TensorView<'_> {
    /// The bytes of the elements, each with its least significant byte first.
    pub fn little_endian(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        if cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(self.datum_type.size_of()).for_each(<[u8]>::reverse);
        }
        bytes
    }
}

/// The inputs of a layer while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a>(Place<'a>);

#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    /// In an arena, around the range that the layer writes.
    Arena {
        before: &'a [u8],
        after: &'a [u8],
        written: &'a Range<usize>,
        values: &'a [Value],
        indices: &'a [usize],
    },
    /// Anywhere.
    Views(&'a [TensorView<'a>]),
}

impl<'a> Inputs<'a> {
    /// Tensors that lie anywhere.
    pub(crate) fn views(views: &'a [TensorView<'a>]) -> Self {
        Self(Place::Views(views))
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        match self.0 {
            Place::Arena { indices, .. } => indices.len(),
            Place::Views(views) => views.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an input lies where the output is written; then it cannot be read from here.
    pub(crate) fn is_overwritten(&self, index: usize) -> bool {
        match self.0 {
            Place::Arena { written, values, indices, .. } => {
                let is_it = |value: &Value| value.part.is_none() && value.range == *written;
                indices.get(index).is_some_and(|&value| is_it(&values[value]))
            }
            Place::Views(_) => false,
        }
    }

    /// An input.
    ///
    /// # Errors
    /// There are fewer, it is part of another value, or it lies where the output is written.
    pub fn get(&self, index: usize) -> Result<TensorView<'a>, KernelError> {
        match self.find(index)? {
            (view, None) => Ok(view),
            (_, Some(_)) => Err(not_whole()),
        }
    }

    /// An input with the bytes that it is part of.
    fn find(&self, index: usize) -> Result<(TensorView<'a>, Option<Part>), KernelError> {
        let missing = || KernelError::Invalid(format!("there is no input {index}"));
        match self.0 {
            Place::Arena { before, after, written, values, indices } => {
                let Value { fact, range, part } = &values[*indices.get(index).ok_or_else(missing)?];
                let bytes = if range.end <= written.start {
                    before.get(range.clone())
                } else {
                    range
                        .start
                        .checked_sub(written.end)
                        .and_then(|start| after.get(start..start + range.len()))
                };
                let overlaps =
                    || KernelError::Invalid(format!("input {index} lies where the output is written"));
                let bytes = bytes.ok_or_else(overlaps)?;
                Ok((TensorView { datum_type: fact.datum_type, shape: &fact.shape, bytes }, *part))
            }
            Place::Views(views) => Ok((views.get(index).copied().ok_or_else(missing)?, None)),
        }
    }

    /// The channels of an input, an int8 image, which may be part of a larger one: for layers that say
    /// that they [take such ones](crate::Layer::takes_strides).
    ///
    /// # Errors
    /// There are fewer inputs, or it is of another type.
    pub fn strided(&self, index: usize) -> Result<Strided<'a>, KernelError> {
        let (view, part) = self.find(index)?;
        let (channels, part) = channels(view.shape, part);
        Strided::new(view.slice()?, part.first, channels, part.stride)
    }

    /// The elements of an input.
    ///
    /// # Errors
    /// There are fewer inputs, or it is of another type.
    pub fn slice<T: Element>(&self, index: usize) -> Result<&'a [T], KernelError> {
        self.get(index)?.slice()
    }

    /// The elements of an input that has so many.
    ///
    /// # Errors
    /// There are fewer inputs, or it is of another type or length.
    pub fn exactly<T: Element>(&self, index: usize, len: usize) -> Result<&'a [T], KernelError> {
        let elements = self.slice(index)?;
        if elements.len() == len {
            return Ok(elements);
        }
        Err(KernelError::Length { what: "an input", expected: len, found: elements.len() })
    }
}

/// The output of a layer while it runs; its content is whatever was there before.
#[derive(Debug)]
pub struct Output<'a> {
    fact: &'a TensorFact,
    part: Option<Part>,
    /// Of the whole image where it is part of one.
    bytes: &'a mut [u8],
}

impl<'a> Output<'a> {
    pub(crate) fn new(fact: &'a TensorFact, part: Option<Part>, bytes: &'a mut [u8]) -> Self {
        Self { fact, part, bytes }
    }

    /// The elements.
    ///
    /// # Errors
    /// They are of another type, or part of another value.
    pub fn slice<T: Element>(self) -> Result<&'a mut [T], KernelError> {
        if self.part.is_some() {
            return Err(not_whole());
        }
        self.elements()
    }

    fn elements<T: Element>(self) -> Result<&'a mut [T], KernelError> {
        check_type::<T>(self.fact.datum_type)?;
        bytemuck::try_cast_slice_mut(self.bytes).map_err(misplaced)
    }

    /// The channels of an int8 image, which may be part of a larger one: for layers that say that they
    /// [take such ones](crate::Layer::takes_strides).
    ///
    /// # Errors
    /// They are of another type.
    pub fn strided(self) -> Result<StridedMut<'a>, KernelError> {
        let (channels, part) = channels(&self.fact.shape, self.part);
        StridedMut::new(self.elements()?, part.first, channels, part.stride)
    }
}

/// Memory for the values of a program, aligned for any of their types. It starts at a cache line, as
/// [`place`](crate::arena::place) lets every value do, so that compute threads never write one line
/// together.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: Vec<u64>,
    /// Bytes in front of the first whole cache line.
    skip: usize,
}

impl Arena {
    /// An arena of at least so many bytes, all zero.
    pub(crate) fn new(bytes: usize) -> Self {
        let memory = vec![0u64; (bytes + CACHE_LINE).div_ceil(size_of::<u64>())];
        let skip = bytemuck::cast_slice::<_, u8>(&memory).as_ptr().align_offset(CACHE_LINE);
        Self { memory, skip }
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.memory.len() * size_of::<u64>()
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.memory)[self.skip..]
    }

    fn all_bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.memory)[self.skip..]
    }

    /// The elements of a value that is part of another one, together.
    pub(crate) fn gather(&self, value: &Value, part: Part) -> Vec<u8> {
        let channels = part.first..part.first + channels(&value.fact.shape, None).0;
        let pixels = self.bytes()[value.range.clone()].chunks_exact(part.stride);
        pixels.flat_map(|pixel| &pixel[channels.clone()]).copied().collect()
    }

    /// A value that is whole.
    pub(crate) fn view<'a>(&'a self, value: &'a Value) -> TensorView<'a> {
        let Value { fact, range, .. } = value;
        let bytes = &self.bytes()[range.clone()];
        TensorView { datum_type: fact.datum_type, shape: &fact.shape, bytes }
    }

    /// The bytes of a value, to be overwritten.
    pub(crate) fn bytes_mut(&mut self, value: &Value) -> &mut [u8] {
        &mut self.all_bytes_mut()[value.range.clone()]
    }

    /// The inputs and the output of a step, none of which overlaps the output.
    pub(crate) fn step<'a>(
        &'a mut self,
        values: &'a [Value],
        indices: &'a [usize],
        output: usize,
    ) -> (Inputs<'a>, Output<'a>) {
        let Value { fact, range: written, part } = &values[output];
        let bytes = self.all_bytes_mut();
        let (before, rest) = bytes.split_at_mut(written.start);
        let (output, after) = rest.split_at_mut(written.len());
        let inputs = Inputs(Place::Arena { before, after, written, values, indices });
        (inputs, Output::new(fact, *part, output))
    }
}

fn check_type<T: Element>(found: DatumType) -> Result<(), KernelError> {
    if found == T::datum_type() {
        return Ok(());
    }
    Err(KernelError::Invalid(format!("a tensor of {found:?} is read as one of {:?}", T::datum_type())))
}

/// Cannot happen to what an arena or tract has placed; a tensor of another origin could.
fn misplaced(error: bytemuck::PodCastError) -> KernelError {
    KernelError::Invalid(format!("a tensor's memory is not that of its type: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_around_what_it_writes() {
        let value = |datum_type, shape: &[usize], range| {
            let fact = TensorFact::new(datum_type, shape);
            Value { fact, range, part: None }
        };
        let values = [
            value(DatumType::I8, &[1, 4], 0..4),
            value(DatumType::I16, &[1, 2], 64..68),
            value(DatumType::F32, &[1, 1], 128..132),
        ];
        let mut arena = Arena::new(132);
        assert!(arena.bytes().as_ptr().addr().is_multiple_of(CACHE_LINE) && arena.bytes().len() >= 132);
        arena.bytes_mut(&values[0]).copy_from_slice(&[1, 2, 3, 255]);
        arena.bytes_mut(&values[2]).copy_from_slice(&2.5f32.to_ne_bytes());
        let (inputs, output) = arena.step(&values, &[0, 2], 1);
        assert_eq!((inputs.len(), inputs.slice::<i8>(0).unwrap()), (2, [1, 2, 3, -1].as_slice()));
        assert_eq!(inputs.slice::<f32>(1).unwrap(), [2.5]);
        assert_eq!(inputs.get(0).unwrap().shape, [1, 4]);
        let error = inputs.slice::<i16>(1).unwrap_err().to_string();
        assert_eq!(error, "a tensor of F32 is read as one of I16");
        assert_eq!(inputs.get(2).unwrap_err().to_string(), "there is no input 2");
        output.slice::<i16>().unwrap().copy_from_slice(&[-1, 300]);
        assert_eq!(arena.view(&values[1]).slice::<i16>().unwrap(), [-1, 300]);
    }
}
