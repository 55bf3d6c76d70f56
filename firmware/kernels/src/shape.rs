use alloc::format;
use core::ops::Range;

use crate::KernelError;

/// No dimension of a tensor and no window may be larger than this.
const MAX_DIMENSION: usize = 1 << 16;
/// No tensor and no weight array may have more elements than this.
const MAX_ELEMENTS: usize = 1 << 30;

/// The geometry of a two-dimensional convolution over one NHWC image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvolutionShape {
    /// Input `[height, width, channels]`.
    pub input: [usize; 3],
    /// Output channels.
    pub output_channels: usize,
    /// Kernel `[height, width]`.
    pub kernel: [usize; 2],
    /// Step between windows `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// Padding `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Distance between the taps of a window `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// Groups: input and output channels are split into this many independent convolutions.
    pub groups: usize,
}

impl ConvolutionShape {
    /// Output `[height, width, channels]`.
    pub fn output(&self) -> [usize; 3] {
        let size = |axis: usize| {
            (self.input[axis] + self.padding[axis] + self.padding[axis + 2] - self.window(axis))
                / self.stride[axis]
                + 1
        };
        [size(0), size(1), self.output_channels]
    }

    /// Rows (axis 0) or columns (axis 1) of the image from the first tap of a window to its last.
    pub(crate) fn window(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// The same windows over some rows of the output alone, and the rows of the input that they cover; none
    /// where these are all outside of the image.
    pub(crate) fn band(&self, rows: Range<usize>) -> Option<(Self, Range<usize>)> {
        let (height, top) = (self.input[0], self.padding[0]);
        let start = rows.start * self.stride[0];
        let end = rows.end.checked_sub(1)? * self.stride[0] + self.window(0);
        let inside = start.saturating_sub(top)..end.saturating_sub(top).min(height);
        let mut shape = self.clone();
        shape.input[0] = inside.len();
        shape.padding[0] = top.saturating_sub(start);
        shape.padding[2] = end.saturating_sub(top + height);
        (!rows.is_empty() && rows.end <= self.output()[0] && !inside.is_empty()).then_some((shape, inside))
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.output().iter().product()
    }

    /// Input channels that one output channel sees.
    pub fn group_channels(&self) -> usize {
        self.input[2] / self.groups
    }

    /// Products that one output sums: kernel height x kernel width x channels of a group.
    pub fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.group_channels()
    }

    /// Elements of the weights, `[output channel][kernel y][kernel x][input channel of the group]`.
    pub fn weights_len(&self) -> usize {
        self.output_channels * self.depth()
    }

    /// Multiply-accumulate operations, counting those on padding.
    pub fn macs(&self) -> u64 {
        self.output_len() as u64 * self.depth() as u64
    }

    /// Whether each output channel sees exactly one input channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.input[2] && self.groups == self.output_channels
    }

    /// Checks that all the other methods can be called without overflow or division by zero.
    ///
    /// # Errors
    /// Says which dimension is unusable.
    pub fn validate(&self) -> Result<(), KernelError> {
        let invalid = |why| Err(KernelError::Invalid(why));
        let positive = [
            &self.input[..],
            &self.kernel,
            &self.stride,
            &self.dilation,
            &[self.output_channels, self.groups],
        ];
        if positive.iter().any(|sizes| sizes.iter().any(|&n| n == 0 || n > MAX_DIMENSION)) {
            return invalid(format!(
                "convolution dimensions must be between 1 and {MAX_DIMENSION}: {self:?}"
            ));
        }
        if self.padding.iter().any(|&n| n > MAX_DIMENSION) {
            return invalid(format!("convolution padding must be at most {MAX_DIMENSION}: {self:?}"));
        }
        if !self.input[2].is_multiple_of(self.groups) || !self.output_channels.is_multiple_of(self.groups) {
            return invalid(format!(
                "{} groups do not divide {} input and {} output channels",
                self.groups, self.input[2], self.output_channels
            ));
        }
        for axis in 0..2 {
            let window = self.window(axis);
            if window > self.input[axis] + self.padding[axis] + self.padding[axis + 2] {
                return invalid(format!(
                    "a convolution window of {window} does not fit its padded input: {self:?}"
                ));
            }
        }
        // Each factor is at most 2^16, so u128 holds any product of these.
        let depth = self.kernel[0] as u128 * self.kernel[1] as u128 * self.group_channels() as u128;
        let elements = [
            self.input.iter().map(|&n| n as u128).product::<u128>(),
            self.output().iter().map(|&n| n as u128).product(),
            depth * self.output_channels as u128,
        ];
        if elements.iter().any(|&n| n > MAX_ELEMENTS as u128) {
            return invalid(format!("a convolution tensor has more than {MAX_ELEMENTS} elements: {self:?}"));
        }
        Ok(())
    }
}

/// The geometry of a pooling window over one NHWC image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Input `[height, width, channels]`.
    pub input: [usize; 3],
    /// Window `[height, width]`.
    pub kernel: [usize; 2],
    /// Step between windows `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// Padding `[top, left, bottom, right]`; padded positions never win.
    pub padding: [usize; 4],
}

impl PoolShape {
    /// Output `[height, width, channels]`.
    pub fn output(&self) -> [usize; 3] {
        self.as_convolution().output()
    }

    /// See [`ConvolutionShape::band`].
    pub(crate) fn band(&self, rows: Range<usize>) -> Option<(Self, Range<usize>)> {
        let (shape, inside) = self.as_convolution().band(rows)?;
        Some((Self { input: shape.input, padding: shape.padding, ..self.clone() }, inside))
    }

    /// Comparisons that it takes: of each output with all that its window covers at most.
    pub fn comparisons(&self) -> u64 {
        let [height, width, channels] = self.output();
        // A window may reach far beyond the image; what is outside costs nothing.
        let window = |axis: usize| self.kernel[axis].min(self.input[axis]);
        [height, width, channels, window(0), window(1)]
            .iter()
            .fold(1, |product: u64, &factor| product.saturating_mul(factor as u64))
    }

    /// The depthwise convolution with the same windows.
    fn as_convolution(&self) -> ConvolutionShape {
        ConvolutionShape {
            input: self.input,
            output_channels: self.input[2],
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: [1, 1],
            groups: self.input[2],
        }
    }

    /// Checks that the shape can be computed and that every window holds a real element.
    ///
    /// # Errors
    /// Says which dimension is unusable.
    pub fn validate(&self) -> Result<(), KernelError> {
        self.as_convolution().validate()?;
        for axis in 0..2 {
            if self.padding[axis] >= self.kernel[axis] || self.padding[axis + 2] >= self.kernel[axis] {
                return Err(KernelError::Invalid(format!(
                    "pooling padding must be smaller than its window: {self:?}"
                )));
            }
        }
        Ok(())
    }
}
