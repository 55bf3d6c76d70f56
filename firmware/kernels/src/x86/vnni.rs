//! AVX-512 VNNI: `vpdpbusd` multiplies 64 unsigned by 64 signed bytes and adds fours.
//!
//! The tile is 14 pixels x 32 channels: 28 accumulators, two vectors of weights and one
//! broadcast of four activations are 31 of the 32 registers. Zen 4 starts one `vpdpbusd` per
//! cycle, so 28 of them leave room for the 16 loads of a step. 14 divides the 56, 28 and
//! 14 pixels of a ResNet's rows and leaves 7 of its last 49, which is fast as well.
//! Activations become unsigned while they are packed (see
//! [`ACTIVATION_OFFSET`](Microkernel::ACTIVATION_OFFSET)).
//!
//! One accumulator of a row has the even channels, the other one the odd channels: this is
//! the order in which a vector of 32 residuals, widened to 16 bits, feeds `vpdpwssd`.

use core::arch::x86_64::*;

use super::{detected, with_rows};
use crate::arithmetic::FRACTION_BITS;
use crate::tiled::{Microkernel, Tile};

const ROWS: usize = 14;
const COLUMNS: usize = 32;
const DEPTH: usize = 32;
/// Bytes of the weights of four depths.
const STEP_BYTES: usize = 4 * COLUMNS;

/// The shift of a layer up to which the upper halves of the 64-bit products keep all the
/// fractional bits that rounding needs.
const MAX_HIGH_SHIFT: u32 = 31 - (32 - (FRACTION_BITS - 1));

/// Proof that the CPU has AVX-512 with VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct X86Vnni(());

impl Microkernel for X86Vnni {
    const NAME: &'static str = "x86_vnni_14x32";
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH: usize = DEPTH;
    const ACTIVATION_OFFSET: i32 = 128;

    fn new() -> Option<Self> {
        detected!("avx512f", "avx512bw", "avx512vl", "avx512vnni").then_some(Self(()))
    }

    fn pack_weights(weight: &dyn Fn(usize, usize) -> i8, depth: usize, packed: &mut [u8]) {
        let mut packed = packed.iter_mut();
        for k in (0..depth).step_by(4) {
            for column in (0..COLUMNS).step_by(2).chain((1..COLUMNS).step_by(2)) {
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
        unsafe { with_rows!(compute(tile), 1 2 3 4 5 6 7 8 9 10 11 12 13) };
    }
}

/// Writes 32 bytes of each row in turn, with their sign bits inverted.
///
/// # Safety
/// The CPU has AVX-512; `rows` has `ROWS` pointers, each good for reading `depth` bytes, a
/// multiple of 32; `panel` is good for writing `ROWS` times as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pack_rows(rows: &[*const i8], depth: usize, panel: *mut u8) {
    let rows: &[*const i8; ROWS] = rows.try_into().expect("as many rows as the tile has");
    let sign = _mm512_set1_epi8(i8::MIN);
    for (index, row) in rows.iter().enumerate() {
        // SAFETY: `depth` bytes of the row, and its 32 of every `ROWS * 32` bytes of the panel.
        unsafe {
            let mut row = row.cast::<u8>();
            let mut panel = panel.add(index * DEPTH);
            for _ in 0..depth / (2 * DEPTH) {
                let bytes = _mm512_xor_si512(_mm512_loadu_si512(row.cast()), sign);
                _mm256_storeu_si256(panel.cast(), _mm512_castsi512_si256(bytes));
                panel = panel.add(ROWS * DEPTH);
                _mm256_storeu_si256(panel.cast(), _mm512_extracti64x4_epi64::<1>(bytes));
                panel = panel.add(ROWS * DEPTH);
                row = row.add(2 * DEPTH);
            }
            if !depth.is_multiple_of(2 * DEPTH) {
                let sign = _mm512_castsi512_si256(sign);
                _mm256_storeu_si256(panel.cast(), _mm256_xor_si256(_mm256_loadu_si256(row.cast()), sign));
            }
        }
    }
}

/// The even and the odd elements of `COLUMNS` constants.
///
/// # Safety
/// The CPU has AVX-512; `from` is good for reading 32 elements.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn even_odd(from: *const i32) -> [__m512i; 2] {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    // SAFETY: 32 elements.
    let (low, high) = unsafe { (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(16).cast())) };
    [_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high)]
}

/// Computes a tile of `N` rows.
///
/// # Safety
/// The CPU has AVX-512 with VNNI, and what [`Tile`] says about its fields.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn compute<const N: usize>(tile: &Tile) {
    // SAFETY: 32 biases.
    let mut rows = [unsafe { even_odd(tile.bias) }; N];
    let (mut panel, mut weights) = (tile.panel, tile.weights);
    for _ in 0..tile.depth / DEPTH {
        for step in 0..DEPTH / 4 {
            // SAFETY: `depth * 32` bytes of weights and `depth * ROWS` bytes of panel.
            unsafe {
                let weights = weights.add(step * STEP_BYTES).cast::<__m512i>();
                let (even, odd) = (_mm512_load_si512(weights), _mm512_load_si512(weights.add(1)));
                for (index, row) in rows.iter_mut().enumerate() {
                    let four = panel.add(index * DEPTH + step * 4).cast::<i32>();
                    let four = _mm512_set1_epi32(four.read_unaligned());
                    row[0] = _mm512_dpbusd_epi32(row[0], four, even);
                    row[1] = _mm512_dpbusd_epi32(row[1], four, odd);
                }
            }
        }
        // SAFETY: to the next 32 of depth, or the end.
        unsafe {
            panel = panel.add(ROWS * DEPTH);
            weights = weights.add(DEPTH * COLUMNS);
        }
    }
    // SAFETY: passed on.
    unsafe {
        if tile.residual.is_null() {
            finish(rows, tile);
        } else {
            finish_residual(rows, tile);
        }
    }
}

/// The 64-bit products of the even and of the odd elements with their multipliers.
#[inline]
#[target_feature(enable = "avx512f")]
fn products(accumulators: __m512i, multiplier: __m512i) -> [__m512i; 2] {
    let odd = _mm512_castps_si512(_mm512_movehdup_ps(_mm512_castsi512_ps(accumulators)));
    [_mm512_mul_epi32(accumulators, multiplier), _mm512_mul_epi32(odd, _mm512_srli_epi64::<32>(multiplier))]
}

/// The upper 32 bits of each product, in each 128-bit lane those of the even elements first.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper_halves([even, odd]: [__m512i; 2]) -> __m512i {
    let (even, odd) = (_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd));
    _mm512_castps_si512(_mm512_shuffle_ps::<0xDD>(even, odd))
}

/// Requantises and stores rows without a residual.
///
/// With `p` the 64-bit product, the formula of [`arithmetic`](crate::arithmetic) is
/// `floor((p + 2^(38-shift)) / 2^(39-shift))`. Both constants are whole multiples of `2^32` for
/// shifts up to 6, so it is `floor((h + 2^(6-shift)) / 2^(7-shift))` of the upper half
/// `h = floor(p / 2^32)`, and `h` may saturate to 16 bits first, because shifting right by
/// at most 7 bits leaves a saturated one beyond the range of an int8.
///
/// # Safety
/// The CPU has AVX-512, and what [`Tile`] says about its fields.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn finish<const N: usize>(mut rows: [[__m512i; 2]; N], tile: &Tile) {
    let high_shift = tile.shift.min(MAX_HIGH_SHIFT);
    if tile.shift != high_shift {
        let count = _mm_cvtsi32_si128((tile.shift - high_shift) as i32);
        for accumulators in rows.as_flattened_mut() {
            *accumulators = _mm512_sll_epi32(*accumulators, count);
        }
    }
    let half = _mm512_set1_epi16(1 << (MAX_HIGH_SHIFT - high_shift));
    let count = _mm_cvtsi32_si128((MAX_HIGH_SHIFT + 1 - high_shift) as i32);
    // SAFETY: 32 multipliers.
    let multiplier = unsafe { even_odd(tile.multiplier) };
    let order = _mm256_setr_epi8(
        0, 4, 2, 6, 1, 5, 3, 7, 8, 12, 10, 14, 9, 13, 11, 15, //
        0, 4, 2, 6, 1, 5, 3, 7, 8, 12, 10, 14, 9, 13, 11, 15,
    );
    for (index, row) in rows.iter().enumerate() {
        let words = _mm512_packs_epi32(
            upper_halves(products(row[0], multiplier[0])),
            upper_halves(products(row[1], multiplier[1])),
        );
        let words = _mm512_adds_epi16(words, half);
        let bytes = _mm512_cvtsepi16_epi8(_mm512_sra_epi16(words, count));
        // SAFETY: 32 elements of each row of output.
        unsafe {
            let output = tile.output.add(index * tile.stride);
            _mm256_storeu_si256(output.cast(), _mm256_shuffle_epi8(bytes, order));
        }
    }
}

/// Requantises, adds the residual and stores.
///
/// `vpdpwssds` saturates where the sum would not fit 32 bits. Then the last line is computed as `floor((floor(t / 128) + 1) / 2)`: the same, but
/// the sum cannot overflow.
///
/// # Safety
/// The CPU has AVX-512 with VNNI, and what [`Tile`] says about its fields; there is a residual.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn finish_residual<const N: usize>(rows: [[__m512i; 2]; N], tile: &Tile) {
    // The product shifted right by `31 - shift`, from both halves of a 64-bit lane.
    let down = _mm_cvtsi32_si128((31 - tile.shift) as i32);
    let up = _mm_cvtsi32_si128((1 + tile.shift) as i32);
    // SAFETY: 32 multipliers.
    let multiplier = unsafe { even_odd(tile.multiplier) };
    let factor =
        [_mm512_set1_epi32(tile.residual_multiplier), _mm512_set1_epi32(tile.residual_multiplier << 16)];
    let one = _mm512_set1_epi16(1);
    let order = _mm256_setr_epi8(
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15, //
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,
    );
    for (index, row) in rows.iter().enumerate() {
        // SAFETY: 32 elements of each row of residual.
        let residual = unsafe {
            let residual = tile.residual.add(index * tile.stride);
            _mm512_cvtepi8_epi16(_mm256_loadu_si256(residual.cast()))
        };
        let mut t = [residual; 2];
        for part in 0..2 {
            let [even, odd] = products(row[part], multiplier[part]);
            let (even, odd) = (_mm512_srl_epi64(even, down), _mm512_sll_epi64(odd, up));
            let product = _mm512_mask_blend_epi32(0xAAAA, even, odd);
            t[part] = _mm512_srai_epi32::<7>(_mm512_dpwssds_epi32(product, residual, factor[part]));
        }
        let words = _mm512_adds_epi16(_mm512_packs_epi32(t[0], t[1]), one);
        let bytes = _mm512_cvtsepi16_epi8(_mm512_srai_epi16::<1>(words));
        // SAFETY: 32 elements of each row of output.
        unsafe {
            let output = tile.output.add(index * tile.stride);
            _mm256_storeu_si256(output.cast(), _mm256_shuffle_epi8(bytes, order));
        }
    }
}
