//! Rows of activations in the order in which a micro-kernel reads them.

use alloc::vec::Vec;
use core::ops::Range;

use super::matrix::Matrix;
use super::microkernel::{MAX_ROWS, Microkernel};
use crate::Strided;
use crate::geometry::Windows;

/// Packs the input under the windows of a few output pixels.
#[derive(Debug)]
pub(super) struct PanelPacker {
    pub(super) windows: Windows,
    output_width: usize,
    /// A window is inside of the image when its first tap is above and left of this.
    interior: [usize; 2],
    /// Whether each window is one pixel, the one at the place of the output: then rows of the matrix are
    /// rows of the input.
    pointwise: bool,
    /// What a row of taps reads outside of the image, where rows are gathered.
    padding_row: Vec<i8>,
    matrix: Matrix,
}

impl PanelPacker {
    pub(super) fn new(windows: Windows, matrix: Matrix) -> Self {
        let shape = &windows.shape;
        let input = shape.input;
        let row = if matrix.gather_bytes > 0 && matrix.groups == 1 { shape.kernel[1] } else { 0 };
        Self {
            output_width: shape.output()[1],
            pointwise: shape.kernel == [1, 1] && shape.stride == [1, 1] && shape.padding == [0; 4],
            padding_row: windows.padding_value.repeat(row),
            interior: [0, 1].map(|axis| (input[axis] + 1).saturating_sub(windows.extent(axis))),
            windows,
            matrix,
        }
    }

    /// Packs the input of a range of output pixels. Rows beyond the last pixel repeat it.
    ///
    /// # Safety
    /// The input has the length of the shape, `panel` is good for writing `panel_bytes` and `gathered`
    /// for `gather_bytes`; `pixels` has 1 to `ROWS` of them.
    pub(super) unsafe fn pack<M: Microkernel>(
        &self,
        microkernel: M,
        input: Strided<'_>,
        group: usize,
        pixels: Range<usize>,
        gathered: *mut i8,
        panel: *mut u8,
    ) {
        let first_channel = group * self.matrix.group_inputs;
        let source = Source {
            packer: self,
            input: input.as_ptr().wrapping_add(first_channel),
            stride: input.stride(),
            are_runs: self.matrix.groups == 1
                && self.windows.shape.dilation[1] == 1
                && input.stride() == self.matrix.group_inputs,
            padding: self.windows.padding_value[first_channel..].as_ptr(),
        };
        if self.pointwise && self.matrix.gather_bytes == 0 {
            // SAFETY: as stated.
            unsafe { source.pack_pixels(microkernel, pixels, panel) };
            return;
        }
        let count = pixels.len();
        let origins = self.origins::<M>(pixels);
        // SAFETY: passed on as stated.
        unsafe {
            if self.matrix.gather_bytes > 0 {
                source.gather(microkernel, &origins[..count], gathered, panel);
            } else {
                source.pack_taps(microkernel, &origins[..M::ROWS], panel);
            }
        }
    }

    /// Where the windows of `ROWS` output pixels start, in wrapping positions.
    #[inline(always)]
    fn origins<M: Microkernel>(&self, pixels: Range<usize>) -> [[usize; 2]; MAX_ROWS] {
        let mut origins = [[0; 2]; MAX_ROWS];
        let (mut y, mut x) = (pixels.start / self.output_width, pixels.start % self.output_width);
        for (row, origin) in origins[..M::ROWS].iter_mut().enumerate() {
            *origin = [self.windows.position(0, y, 0), self.windows.position(1, x, 0)];
            if row + 1 < pixels.len() {
                x += 1;
                if x == self.output_width {
                    (y, x) = (y + 1, 0);
                }
            }
        }
        origins
    }

    /// Whether all taps of a window are inside of the image.
    #[inline(always)]
    fn is_interior(&self, [y, x]: [usize; 2]) -> bool {
        y < self.interior[0] && x < self.interior[1]
    }
}

/// The channels of a group.
struct Source<'a> {
    packer: &'a PanelPacker,
    /// The first pixel.
    input: *const i8,
    /// Elements from one pixel to the next.
    stride: usize,
    /// Whether taps next to each other in the image are one run of memory.
    are_runs: bool,
    padding: *const i8,
}

impl Source<'_> {
    /// The channels of the group under a tap of the window at `origin`.
    #[inline(always)]
    fn tap(&self, origin: [usize; 2], ky: usize, kx: usize) -> *const i8 {
        let windows = &self.packer.windows;
        let dilation = windows.shape.dilation;
        let position = [origin[0].wrapping_add(ky * dilation[0]), origin[1].wrapping_add(kx * dilation[1])];
        windows.index(position).map_or(self.padding, |index| self.input.wrapping_add(index * self.stride))
    }

    /// Packs the channels of pixels of the input.
    ///
    /// # Safety
    /// These are 1 to `ROWS` pixels of the input; `panel` is good for writing.
    #[inline(always)]
    unsafe fn pack_pixels<M: Microkernel>(&self, microkernel: M, pixels: Range<usize>, panel: *mut u8) {
        let mut pointers = [self.input.wrapping_add((pixels.end - 1) * self.stride); MAX_ROWS];
        for (pointer, pixel) in pointers[..M::ROWS].iter_mut().zip(pixels) {
            *pointer = self.input.wrapping_add(pixel * self.stride);
        }
        // SAFETY: each pointer is to the channels of a group of a pixel.
        unsafe { microkernel.pack_rows(&pointers[..M::ROWS], self.packer.matrix.group_inputs, panel) };
    }

    /// Packs the channels of each tap in turn, right from where they are.
    ///
    /// # Safety
    /// The windows at `origins`, `ROWS` of them, are those of output pixels; `panel` is good for writing.
    #[inline(always)]
    unsafe fn pack_taps<M: Microkernel>(&self, microkernel: M, origins: &[[usize; 2]], panel: *mut u8) {
        let windows = &self.packer.windows;
        let (shape, group_inputs) = (&windows.shape, self.packer.matrix.group_inputs);
        let width = shape.input[1];
        let interior = origins.iter().all(|&origin| self.packer.is_interior(origin));
        let mut bases = [self.input; MAX_ROWS];
        for (base, &[y, x]) in bases.iter_mut().zip(origins) {
            *base = self.input.wrapping_add(y.wrapping_mul(width).wrapping_add(x).wrapping_mul(self.stride));
        }
        let mut panel = panel;
        for ky in 0..shape.kernel[0] {
            for kx in 0..shape.kernel[1] {
                let mut pointers = [self.padding; MAX_ROWS];
                let (down, right) = (ky * shape.dilation[0], kx * shape.dilation[1]);
                let offset = (down * width + right) * self.stride;
                for ((pointer, base), &[y, x]) in pointers.iter_mut().zip(bases).zip(origins) {
                    let position = [y.wrapping_add(down), x.wrapping_add(right)];
                    if interior || windows.index(position).is_some() {
                        *pointer = base.wrapping_add(offset);
                    }
                }
                // SAFETY: each pointer is to the channels of a group, in the image or in the
                // padding, and the panels of the taps follow each other.
                unsafe {
                    microkernel.pack_rows(&pointers[..M::ROWS], group_inputs, panel);
                    panel = panel.add(group_inputs * M::ROWS * M::ACTIVATION_BYTES);
                }
            }
        }
    }

    /// Packs windows that are gathered first, because the channels of a tap are no whole number of
    /// depth steps.
    ///
    /// # Safety
    /// The windows at `origins`, 1 to `ROWS` of them, are those of output pixels; `gathered` and `panel`
    /// are good for writing.
    #[inline(always)]
    unsafe fn gather<M: Microkernel>(
        &self,
        microkernel: M,
        origins: &[[usize; 2]],
        gathered: *mut i8,
        panel: *mut u8,
    ) {
        let depth = self.packer.matrix.depth;
        let mut pointers = [gathered.cast_const(); MAX_ROWS];
        for (row, pointer) in pointers[..M::ROWS].iter_mut().enumerate() {
            *pointer = gathered.wrapping_add(row.min(origins.len() - 1) * depth);
        }
        let mut first = 0;
        while first < origins.len() {
            let inside = origins[first..].iter().take_while(|&&origin| self.is_contiguous(origin)).count();
            // SAFETY: `gathered` has room for `ROWS` rows of `depth`.
            unsafe {
                let start = gathered.add(first * depth);
                if inside > 0 {
                    self.gather_inside(&origins[first..first + inside], start);
                } else {
                    self.gather_row(origins[first], start);
                }
            }
            first += inside.max(1);
        }
        // SAFETY: each row was gathered.
        unsafe { microkernel.pack_rows(&pointers[..M::ROWS], depth, panel) };
    }

    /// Whether a window is inside of the image, and each of its rows one run of memory.
    #[inline(always)]
    fn is_contiguous(&self, origin: [usize; 2]) -> bool {
        self.are_runs && self.packer.is_interior(origin)
    }

    /// Copies windows to contiguous memory, a row of all of them at a time. What is left behind them does
    /// not matter: it meets zero weights.
    ///
    /// # Safety
    /// The windows at `origins`, at most `MAX_ROWS`, are [contiguous](Self::is_contiguous); `to` is good
    /// for writing `depth` elements for each of them.
    #[inline(always)]
    unsafe fn gather_inside(&self, origins: &[[usize; 2]], to: *mut i8) {
        let (shape, channels) = (&self.packer.windows.shape, self.packer.matrix.group_inputs);
        let mut windows = [self.input; MAX_ROWS];
        for (window, &[y, x]) in windows.iter_mut().zip(origins) {
            *window = self.input.wrapping_add((y * shape.input[1] + x) * channels);
        }
        let run = shape.kernel[1] * channels;
        for ky in 0..shape.kernel[0] {
            let (from, to) = (ky * shape.dilation[0] * shape.input[1] * channels, to.wrapping_add(ky * run));
            // SAFETY: a row of each window, inside of the image.
            unsafe { copy_runs(&windows[..origins.len()], from, to, self.packer.matrix.depth, run) };
        }
    }

    /// Copies the window at `origin` to contiguous memory. What is left behind it does not
    /// matter: it meets zero weights.
    ///
    /// # Safety
    /// `row` is good for writing `depth` elements.
    unsafe fn gather_row(&self, origin: [usize; 2], row: *mut i8) {
        let (shape, group_inputs) = (&self.packer.windows.shape, self.packer.matrix.group_inputs);
        let kernel = shape.kernel;
        let contiguous = self.are_runs && origin[1] < self.packer.interior[1];
        let run = kernel[1] * group_inputs;
        let mut end = row;
        for ky in 0..kernel[0] {
            let inside = origin[0].wrapping_add(ky * shape.dilation[0]) < shape.input[0];
            // SAFETY: a run stays within a row of the image or is a whole row of padding; all copies
            // together are the depth.
            unsafe {
                if !inside && !self.packer.padding_row.is_empty() {
                    copy_run(self.packer.padding_row.as_ptr(), end, run);
                    end = end.add(run);
                } else if inside && contiguous {
                    copy_run(self.tap(origin, ky, 0), end, run);
                    end = end.add(run);
                } else {
                    for kx in 0..kernel[1] {
                        copy_run(self.tap(origin, ky, kx), end, group_inputs);
                        end = end.add(group_inputs);
                    }
                }
            }
        }
    }
}

/// Copies a short run without a call: the last 16 bytes overlap those before them.
///
/// # Safety
/// `len` bytes can be read and written, and do not overlap.
#[inline(always)]
unsafe fn copy_run(from: *const i8, to: *mut i8, len: usize) {
    // SAFETY: every access is within the first `len` bytes.
    unsafe {
        if len < 16 {
            for index in 0..len {
                to.add(index).write(from.add(index).read());
            }
            return;
        }
        let copy = |at: usize| to.add(at).cast::<[u8; 16]>().write(from.add(at).cast::<[u8; 16]>().read());
        let mut at = 0;
        while at + 16 < len {
            copy(at);
            at += 16;
        }
        copy(len - 16);
    }
}

/// Copies `len` bytes from each of `windows`, `from` bytes behind its start, to `to` and every `depth` bytes
/// on.
///
/// # Safety
/// All of them can be read and written, and do not overlap.
#[inline(never)]
unsafe fn copy_runs(windows: &[*const i8], from: usize, to: *mut i8, depth: usize, len: usize) {
    // A ResNet's first window has 21: without a loop within this one.
    if (16..=32).contains(&len) {
        let last = len - 16;
        for (row, window) in windows.iter().enumerate() {
            // SAFETY: the first and the last 16 bytes.
            unsafe {
                let (from, to) = (window.add(from), to.add(row * depth));
                let (first, second) =
                    (from.cast::<[u8; 16]>().read(), from.add(last).cast::<[u8; 16]>().read());
                to.cast::<[u8; 16]>().write(first);
                to.add(last).cast::<[u8; 16]>().write(second);
            }
        }
        return;
    }
    for (row, window) in windows.iter().enumerate() {
        // SAFETY: as stated.
        unsafe { copy_run(window.add(from), to.add(row * depth), len) };
    }
}
