//! From accumulators to int8 outputs: the constants of a layer's channels, and the portable loops.

use alloc::vec::Vec;

use crate::arithmetic::requantise;

/// What turns the accumulators of a layer into its outputs, by the formula of
/// [`arithmetic`](crate::arithmetic).
#[derive(Debug)]
pub(crate) struct Requantisation {
    /// What accumulators start from, one per output channel.
    pub(crate) bias: Vec<i32>,
    /// One per output channel.
    pub(crate) multiplier: Vec<i32>,
    /// Left shift of every accumulator.
    pub(crate) shift: u32,
    /// Q8; 0 where there is no residual.
    pub(crate) residual_multiplier: i32,
}

impl Requantisation {
    /// Accumulators of `N` channels from `channel` on, before any product.
    #[inline(always)]
    pub(crate) fn start<const N: usize>(&self, channel: usize) -> [i32; N] {
        let bias = &self.bias[channel..channel + N];
        core::array::from_fn(|lane| bias[lane])
    }

    /// Stores `N` channels of one pixel from `channel` on; `residual` and `output` are the whole pixel.
    #[inline(always)]
    pub(crate) fn finish<const N: usize>(
        &self,
        channel: usize,
        sums: &[i32; N],
        residual: Option<&[i8]>,
        output: &mut [i8],
    ) {
        let multiplier = &self.multiplier[channel..][..N];
        let output = &mut output[channel..][..N];
        if let Some(residual) = residual {
            let residual = &residual[channel..][..N];
            for lane in 0..N {
                let residual = self.residual_multiplier * i32::from(residual[lane]);
                output[lane] = requantise(sums[lane], self.shift, multiplier[lane], residual);
            }
        } else {
            for lane in 0..N {
                output[lane] = requantise(sums[lane], self.shift, multiplier[lane], 0);
            }
        }
    }
}
