//! AVX-VNNI: `vpdpbusd` of 256 bits, for processors without AVX-512 (Alder Lake, N100).
//!
//! It multiplies 32 unsigned by 32 signed bytes and adds fours: four times the products of
//! `vpmaddwd`, from bytes that need no widening. Otherwise as [`avx2`](super::avx2), whose epilogue
//! it shares: 6 pixels x 16 channels, 12 accumulators, two vectors of weights and one broadcast of
//! four activations are 15 of the 16 registers. Activations become unsigned while they are packed
//! (see [`ACTIVATION_OFFSET`](Microkernel::ACTIVATION_OFFSET)).
//! - Panel: `[depth / 32][6 pixels][32]`.
//! - Weights: `[depth / 4][16 channels][4]`.

use core::arch::x86_64::*;

use super::avx2::{finish, pair};
use super::{detected, with_rows};
use crate::tiled::{Microkernel, Tile};

const ROWS: usize = 6;
const COLUMNS: usize = 16;
const DEPTH: usize = 32;

/// Proof that the CPU has AVX2 and AVX-VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct X86AvxVnni(());

impl Microkernel for X86AvxVnni {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;
    const ACTIVATION_OFFSET: i32 = 128;

    fn new() -> Option<Self> {
        detected!("avx2", "avxvnni").then_some(Self(()))
    }

    fn pack_weights(weight: &dyn Fn(usize, usize) -> i8, depth: usize, packed: &mut [u8]) {
        let mut packed = packed.iter_mut();
        for k in (0..depth).step_by(4) {
            for column in 0..COLUMNS {
                for (k, byte) in (k..k + 4).zip(&mut packed) {
                    *byte = weight(k, column) as u8;
                }
            }
        }
    }

    unsafe fn pack_rows(self, rows: &[*const i8], depth: usize, panel: *mut u8) {
        // SAFETY: owning a value proves that the CPU has the instructions; the rest is passed on.
        unsafe { pack_rows(rows, depth, panel) };
    }

    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: owning a value proves that the CPU has the instructions; the rest is passed on.
        unsafe { with_rows!(compute(tile), 1 2 3 4 5) };
    }
}

/// Writes 32 bytes of each row in turn, with their sign bits inverted.
///
/// # Safety
/// The CPU has AVX2; `rows` has `ROWS` pointers, each good for reading `depth` bytes, a
/// multiple of 32; `panel` is good for writing `ROWS` times as many.
#[target_feature(enable = "avx2")]
unsafe fn pack_rows(rows: &[*const i8], depth: usize, panel: *mut u8) {
    let sign = _mm256_set1_epi8(i8::MIN);
    let mut panel = panel.cast::<__m256i>();
    for k in (0..depth).step_by(DEPTH) {
        for row in rows {
            // SAFETY: 32 bytes of the row, the next 32 of the panel.
            unsafe {
                let bytes = _mm256_loadu_si256(row.add(k).cast());
                _mm256_storeu_si256(panel, _mm256_xor_si256(bytes, sign));
                panel = panel.add(1);
            }
        }
    }
}

/// Computes a tile of `N` rows.
///
/// # Safety
/// The CPU has AVX2 and AVX-VNNI, and what [`Tile`] says about its fields.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn compute<const N: usize>(tile: &Tile) {
    // SAFETY: 16 biases.
    let mut rows = [unsafe { pair(tile.bias) }; N];
    let (mut panel, mut weights) = (tile.panel, tile.weights.cast::<__m256i>());
    for _ in 0..tile.depth / DEPTH {
        for step in 0..DEPTH / 4 {
            // SAFETY: `depth * 16` bytes of weights and `depth * ROWS` of the panel.
            unsafe {
                let low = _mm256_load_si256(weights.add(2 * step));
                let high = _mm256_load_si256(weights.add(2 * step + 1));
                for (index, row) in rows.iter_mut().enumerate() {
                    let four = panel.add(index * DEPTH + 4 * step).cast::<i32>();
                    let four = _mm256_set1_epi32(four.read_unaligned());
                    row[0] = _mm256_dpbusd_avx_epi32(row[0], four, low);
                    row[1] = _mm256_dpbusd_avx_epi32(row[1], four, high);
                }
            }
        }
        // SAFETY: to the next 32 of depth, or the end.
        unsafe {
            panel = panel.add(ROWS * DEPTH);
            weights = weights.add(DEPTH / 2);
        }
    }
    // SAFETY: passed on.
    unsafe { finish(rows, tile) };
}
