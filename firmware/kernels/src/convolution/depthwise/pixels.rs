//! Depthwise convolutions pixel by pixel: a list of where the taps of the window are, which a micro-kernel
//! goes through for 16 channels after the other.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::ptr;

use crate::convolution::packed::PackedConvolution;
use crate::convolution::parameters::ConvolutionParameters;
use crate::convolution::tiled::Tile;
use crate::geometry::Windows;
use crate::parts::Residual;
use crate::requantise::Requantisation;
use crate::{KernelError, Parallel, Strided, StridedMut};

/// Channels that a micro-kernel computes at a time.
pub(crate) const CHANNELS: usize = 16;

/// Most taps of a window: bounds the list on the stack.
const MAX_TAPS: usize = 64;

/// What an instruction set brings: the channels of one output pixel.
///
/// A value can only be made by [`new`](Self::new), which asks the CPU: owning one proves that the CPU has
/// the instructions.
///
/// # Safety
/// An implementer vouches that [`new`](Self::new) gives a value only on a CPU that has every instruction of
/// the methods, and that [`pixel`](Self::pixel) reads and writes no more than [`Pixel`] says.
pub(crate) unsafe trait PixelKernel: Copy + Debug + Send + Sync + 'static {
    /// A packed weight.
    type Weight: Copy + Debug + Send + Sync;

    /// The kernel, when the running CPU has its instructions.
    fn new() -> Option<Self>;

    /// Packs the weights of two taps, which are multiplied together.
    fn pack(pair: [[i8; CHANNELS]; 2]) -> [Self::Weight; 2 * CHANNELS];

    /// Computes all channels of an output pixel and stores them.
    ///
    /// # Safety
    /// Everything [`Pixel`] says about its fields holds.
    unsafe fn pixel(self, pixel: &Pixel<'_, Self::Weight>);
}

/// What a micro-kernel needs for one output pixel.
#[derive(Debug)]
pub(crate) struct Pixel<'a, W> {
    /// The pixels under the window, each good for reading `channels` elements; at least one.
    pub(crate) taps: &'a [*const i8],
    /// For each [block](Self::blocks), `2 * CHANNELS` of each pair of taps; the last may be alone and has
    /// zeros beside it.
    pub(crate) weights: *const W,
    /// At least [`CHANNELS`].
    pub(crate) channels: usize,
    /// Bias, multiplier, residual and output of the first channel, good for `channels` elements each, the
    /// residual being null where there is none. Its panel, its weights and its depth are none.
    pub(crate) tile: Tile,
}

impl<W> Pixel<'_, W> {
    /// The first channels of the blocks of 16. The last one may overlap the one before it: both store the
    /// same there.
    #[inline(always)]
    pub(crate) fn blocks(&self) -> impl Iterator<Item = usize> + use<W> {
        blocks(self.channels)
    }

    /// What is left to do for the block that begins with a channel, when its products are summed up.
    #[inline(always)]
    pub(crate) fn tile(&self, channel: usize) -> Tile {
        let mut tile = self.tile;
        tile.move_on(channel);
        tile.bias = tile.bias.wrapping_add(channel);
        tile.multiplier = tile.multiplier.wrapping_add(channel);
        tile
    }
}

#[inline(always)]
fn blocks(channels: usize) -> impl Iterator<Item = usize> {
    (0..channels).step_by(CHANNELS).map(move |channel| channel.min(channels - CHANNELS))
}

/// A depthwise convolution of at least 16 channels.
#[derive(Debug)]
struct Pixels<K: PixelKernel> {
    kernel: K,
    name: &'static str,
    windows: Windows,
    /// How many pixels the taps of a window that lies inside of the image are from its first.
    offsets: Vec<usize>,
    /// `[block][pair of taps][2 * CHANNELS]`.
    weights: Vec<K::Weight>,
    requantisation: Requantisation,
}

/// Packs the weights of a depthwise layer, whose parameters are valid; `None` for one that a micro-kernel
/// does not take.
pub(super) fn pack<K: PixelKernel>(
    kernel: K,
    name: &'static str,
    parameters: &ConvolutionParameters<'_>,
) -> Option<Box<dyn PackedConvolution>> {
    let shape = &parameters.shape;
    let ([_, width, channels], taps) = (shape.input, shape.depth());
    if channels < CHANNELS || taps > MAX_TAPS {
        return None;
    }
    let [height_taps, width_taps] = shape.kernel;
    let offset = |y: usize, x: usize| y * shape.dilation[0] * width + x * shape.dilation[1];
    let offsets = (0..height_taps).flat_map(|y| (0..width_taps).map(move |x| offset(y, x))).collect();
    let weight = |channel: usize, tap: usize| {
        if tap < taps { parameters.weights[channel * taps + tap] } else { 0 }
    };
    let of_tap = |first, tap| core::array::from_fn(|channel| weight(first + channel, tap));
    let pair = |first, pair| K::pack([of_tap(first, 2 * pair), of_tap(first, 2 * pair + 1)]);
    let weights =
        blocks(channels).flat_map(|first| (0..taps.div_ceil(2)).flat_map(move |at| pair(first, at)));
    Some(Box::new(Pixels {
        kernel,
        name,
        windows: parameters.windows(),
        offsets,
        weights: weights.collect(),
        requantisation: parameters.requantisation(),
    }))
}

impl<K: PixelKernel> Pixels<K> {
    /// Lists the pixels under the window of an output position, of which each has all channels.
    #[inline(always)]
    fn find(&self, input: Strided<'_>, [y, x]: [usize; 2], taps: &mut [*const i8]) {
        let windows = &self.windows;
        let shape = &windows.shape;
        let first = [windows.position(0, y, 0), windows.position(1, x, 0)];
        let is_inside = |axis: usize| first[axis] + windows.extent(axis) <= shape.input[axis];
        // Where the first tap lies in the image, nothing overflows.
        if let Some(index) = windows.index(first)
            && is_inside(0)
            && is_inside(1)
        {
            let stride = input.stride();
            let first = input.as_ptr().wrapping_add(index * stride);
            for (tap, &offset) in taps.iter_mut().zip(&self.offsets) {
                *tap = first.wrapping_add(offset * stride);
            }
            return;
        }
        let places = (0..shape.kernel[0]).flat_map(|ky| (0..shape.kernel[1]).map(move |kx| [ky, kx]));
        for (tap, [ky, kx]) in taps.iter_mut().zip(places) {
            let position = [windows.position(0, y, ky), windows.position(1, x, kx)];
            *tap = windows.channels(input, position, 0..shape.input[2]).as_ptr();
        }
    }

    /// Computes the pixels of the output from `first` on.
    fn pixels(
        &self,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        first: usize,
        mut output: StridedMut<'_>,
    ) {
        let [_, width, channels] = self.windows.shape.output();
        let mut taps = [ptr::null(); MAX_TAPS];
        let taps = &mut taps[..self.offsets.len()];
        let stride = output.stride();
        for (pixel, output) in (first..).zip(output.pixels_mut()) {
            self.find(input, [pixel / width, pixel % width], taps);
            let (residual, residual_stride) = Residual::place(residual, pixel, 0);
            let Requantisation { bias, multiplier, shift, residual_multiplier } = &self.requantisation;
            let tile = Tile {
                panel: ptr::null(),
                weights: ptr::null(),
                depth: 0,
                rows: 1,
                columns: CHANNELS,
                bias: bias.as_ptr(),
                multiplier: multiplier.as_ptr(),
                shift: *shift,
                residual,
                residual_multiplier: *residual_multiplier,
                output: output.as_mut_ptr(),
                stride,
                residual_stride,
            };
            let pixel = Pixel { taps, weights: self.weights.as_ptr(), channels, tile };
            // SAFETY: the taps have all channels, as have bias, multiplier, residual and output; the weights
            // were packed for as many blocks and pairs.
            unsafe { self.kernel.pixel(&pixel) };
        }
    }
}

impl<K: PixelKernel> PackedConvolution for Pixels<K> {
    fn kernel(&self) -> &'static str {
        self.name
    }

    fn run(
        &self,
        parallel: &dyn Parallel,
        input: Strided<'_>,
        residual: Option<Residual<'_>>,
        output: StridedMut<'_>,
        _scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [_, width, _] = self.windows.shape.output();
        output.split_rows(parallel, width, &|first, pixels| self.pixels(input, residual, first, pixels));
        Ok(())
    }
}
