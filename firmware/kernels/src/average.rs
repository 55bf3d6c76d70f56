use alloc::format;

use crate::parts::split;
use crate::vectors::Vectors;
use crate::{Isa, KernelError, Parallel};

/// Channels that are summed at a time: a cache line.
const CHANNELS: usize = 64;

/// Most fractional bits of an average: `128 * 2^7` still fits `i16`.
pub const MAX_AVERAGE_FRACTION_BITS: u32 = 7;

/// Average over all positions of an NHWC image, kept with fractional bits.
///
/// For each channel, with `n` positions and `f` fractional bits,
/// `out = floor((sum(q) * 2^(f+1) + n) / (2 * n))`: the mean of the int8 values times `2^f`,
/// rounded half up. An int8 average would be the coarsest step of the whole network; the
/// extra bits are free because the following linear layer widens to 16 bits anyway.
#[derive(Debug)]
pub struct GlobalAverage {
    input: [usize; 3],
    fraction_bits: u32,
    vectors: Vectors,
}

impl GlobalAverage {
    /// An average over `input` = `[height, width, channels]`.
    ///
    /// # Errors
    /// An empty image, one of more than 2^20 positions, more than
    /// [`MAX_AVERAGE_FRACTION_BITS`], or [`KernelError::Unavailable`].
    pub fn new(isa: Isa, input: [usize; 3], fraction_bits: u32) -> Result<Self, KernelError> {
        isa.check()?;
        let positions = input[0].saturating_mul(input[1]);
        if positions == 0 || positions > 1 << 20 || input[2] == 0 || input[2] > 1 << 16 {
            return Err(KernelError::Invalid(format!("cannot average an image of {input:?}")));
        }
        if fraction_bits > MAX_AVERAGE_FRACTION_BITS {
            return Err(KernelError::Invalid(format!(
                "an average with {fraction_bits} fractional bits does not fit 16 bits"
            )));
        }
        Ok(Self { input, fraction_bits, vectors: isa.vectors() })
    }

    /// Input `[height, width, channels]`.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// Computes one average per channel.
    ///
    /// # Errors
    /// [`KernelError::Length`] when a buffer has another length than the shape asks for.
    pub fn run(&self, parallel: &dyn Parallel, input: &[i8], output: &mut [i16]) -> Result<(), KernelError> {
        let [height, width, channels] = self.input;
        KernelError::check("input", height * width * channels, input.len())?;
        KernelError::check("output", channels, output.len())?;
        // Whole cache lines are worth a thread only if there are enough of them.
        let parts = if channels.is_multiple_of(CHANNELS) { parallel.threads() } else { 1 };
        let unit = if parts > 1 { CHANNELS } else { channels };
        split(parallel, parts, output, unit, &|first, averages| {
            self.vectors.run(|| self.channels(input, first * unit, averages));
        });
        Ok(())
    }

    /// Computes the averages of the channels from `first` on.
    #[inline(always)]
    fn channels(&self, input: &[i8], first: usize, output: &mut [i16]) {
        let [height, width, channels] = self.input;
        let positions = (height * width) as i64;
        for (block, output) in output.chunks_mut(CHANNELS).enumerate() {
            let start = first + block * CHANNELS;
            let mut sums = [0i32; CHANNELS];
            if output.len() == CHANNELS {
                for pixel in input.chunks_exact(channels) {
                    for (sum, &value) in sums.iter_mut().zip(&pixel[start..start + CHANNELS]) {
                        *sum += i32::from(value);
                    }
                }
            } else {
                for pixel in input.chunks_exact(channels) {
                    for (sum, &value) in sums.iter_mut().zip(&pixel[start..]) {
                        *sum += i32::from(value);
                    }
                }
            }
            for (out, &sum) in output.iter_mut().zip(&sums) {
                let scaled = (i64::from(sum) << (self.fraction_bits + 1)) + positions;
                *out = scaled.div_euclid(2 * positions) as i16;
            }
        }
    }
}
