//! Weights in the order in which a micro-kernel reads them.

use alloc::vec;
use alloc::vec::Vec;

use super::matrix::Matrix;
use super::microkernel::Microkernel;
use crate::ConvolutionParameters;
use crate::arithmetic::accumulator_bound;
use crate::parts::CACHE_LINE;
use crate::requantise::Requantisation;

/// Packs the weights of a layer: `[group][column tile]`, each as the micro-kernel's constants say.
pub(super) fn pack_weights<M: Microkernel>(
    parameters: &ConvolutionParameters<'_>,
    matrix: &Matrix,
) -> CacheLines {
    let mut weights = CacheLines::new(matrix.columns() * matrix.weight_tile_bytes);
    // The rows of a tile's columns, one after the other: padded, and with zeros for other groups.
    let mut rows = vec![0; M::COLUMNS * matrix.depth];
    for (column, packed) in weights.bytes_mut().chunks_exact_mut(matrix.weight_tile_bytes).enumerate() {
        let channels = matrix.channels(column);
        if channels.len() < M::COLUMNS || matrix.groups < parameters.shape.groups {
            rows.fill(0);
        }
        for (output, row) in channels.zip(rows.chunks_exact_mut(matrix.depth)) {
            spread_row(parameters, matrix, output, row);
        }
        let blocks = rows.chunks_exact(matrix.depth * M::WEIGHT_COLUMNS);
        for (block, packed) in
            blocks.zip(packed.chunks_exact_mut(matrix.depth * M::WEIGHT_COLUMNS * M::WEIGHT_BYTES))
        {
            match M::WEIGHT_STEP {
                2 => interleave::<M, 2>(block, matrix.depth, packed),
                4 => interleave::<M, 4>(block, matrix.depth, packed),
                8 => interleave::<M, 8>(block, matrix.depth, packed),
                _ => interleave::<M, 16>(block, matrix.depth, packed),
            }
        }
    }
    weights
}

/// Copies the weights of an output channel to their place in a row of the matrix; the rest of `row` is
/// zero or stays so.
fn spread_row(parameters: &ConvolutionParameters<'_>, matrix: &Matrix, output: usize, row: &mut [i8]) {
    let shape = &parameters.shape;
    let weights = parameters.row(output);
    let channels = shape.group_channels();
    if channels == matrix.group_inputs {
        row[..weights.len()].copy_from_slice(weights);
        return;
    }
    // Merged groups are a block-diagonal matrix: `first` is where the group of this channel starts.
    let group = output / (shape.output_channels / shape.groups);
    let first = group * channels % matrix.group_inputs;
    for (tap, to) in weights.chunks_exact(channels).zip(row.chunks_mut(matrix.group_inputs)) {
        to[first..first + channels].copy_from_slice(tap);
    }
}

/// Writes `STEP` weights of each of the rows in turn.
fn interleave<M: Microkernel, const STEP: usize>(rows: &[i8], depth: usize, packed: &mut [u8]) {
    let step_bytes = M::WEIGHT_COLUMNS * STEP * M::WEIGHT_BYTES;
    for place in 0..M::WEIGHT_COLUMNS {
        let column = M::COLUMN_ORDER.map_or(place, |order| order[place]);
        let row = rows[column * depth..(column + 1) * depth].as_chunks::<STEP>().0;
        for (weights, packed) in row.iter().zip(packed.chunks_exact_mut(step_bytes)) {
            let packed = &mut packed[place * STEP * M::WEIGHT_BYTES..][..STEP * M::WEIGHT_BYTES];
            if M::WEIGHT_BYTES == 1 {
                packed.copy_from_slice(&weights.map(|weight| weight as u8));
            } else {
                for (word, &weight) in packed.as_chunks_mut::<2>().0.iter_mut().zip(weights) {
                    *word = i16::from(weight).to_ne_bytes();
                }
            }
        }
    }
}

/// The constants of the output channels, `[group][column tile][COLUMNS]`, as the micro-kernel reads them.
pub(super) fn pack_constants<M: Microkernel>(
    parameters: &ConvolutionParameters<'_>,
    matrix: &Matrix,
) -> Requantisation {
    let len = matrix.columns() * M::COLUMNS;
    let (mut bias, mut multiplier) = (vec![0; len], vec![0; len]);
    for column in 0..matrix.columns() {
        for (output, place) in matrix.channels(column).zip(column * M::COLUMNS..) {
            bias[place] = parameters.bias[output];
            if M::ACTIVATION_OFFSET != 0 {
                let sum: i32 = parameters.row(output).iter().map(|&w| i32::from(w)).sum();
                // Wraps where the accumulator wraps as well: the result is exact.
                bias[place] = bias[place].wrapping_sub(M::ACTIVATION_OFFSET.wrapping_mul(sum));
            }
            multiplier[place] = parameters.multiplier[output];
        }
    }
    let bounds = || {
        let rows = parameters.weights.chunks_exact(parameters.shape.depth());
        rows.zip(parameters.bias).map(|(row, &bias)| accumulator_bound(row, bias)).max().unwrap_or(0)
    };
    let shift = M::prepare_scale(&mut multiplier, parameters.shift, &bounds);
    let residual_multiplier = parameters.residual_multiplier.unwrap_or(0);
    Requantisation { bias, multiplier, shift, residual_multiplier }
}

/// Bytes that start at a cache line.
#[derive(Debug)]
pub(super) struct CacheLines(Vec<CacheLine>);

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; CACHE_LINE]);

impl CacheLines {
    fn new(len: usize) -> Self {
        Self(vec![CacheLine([0; CACHE_LINE]); len.div_ceil(CACHE_LINE)])
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: a line is 64 initialised bytes without padding.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * CACHE_LINE) }
    }
}
