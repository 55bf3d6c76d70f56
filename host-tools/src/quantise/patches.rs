//! What a layer reads at one of its output positions, in the order of its weights.

use resight_kernels::ConvolutionShape;

use super::error::QuantiseError;
use super::graph::QuantisationGraph;
use crate::graph::{NodeId, Operator};

/// Where a convolution reads: a patch is `[kernel y][kernel x][channel of the group]`.
#[derive(Debug, Clone)]
pub struct Patches {
    shape: ConvolutionShape,
    /// Output `[height, width]`.
    output: [usize; 2],
    /// What padding reads as, for each input channel.
    padding: Vec<i8>,
}

impl Patches {
    /// Of a convolution whose input has an encoding. `None` for other nodes.
    ///
    /// # Errors
    /// An input without an encoding.
    pub fn new(graph: &QuantisationGraph<'_>, id: NodeId) -> Result<Option<Self>, QuantiseError> {
        let Operator::Convolution(convolution) = &graph.node(id).operator else { return Ok(None) };
        let shape = graph.convolution_shape(id, convolution);
        let encoding = graph.encoding(graph.input(id))?;
        let [height, width, _] = shape.output();
        Ok(Some(Self {
            output: [height, width],
            padding: (0..shape.input[2]).map(|channel| encoding.padding(channel)).collect(),
            shape,
        }))
    }

    /// Output positions.
    pub fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Length of a patch.
    pub fn depth(&self) -> usize {
        self.shape.depth()
    }

    /// Appends the int8 patch of a group at a position of an input `[height][width][channel]`.
    pub fn append(&self, input: &[i8], group: usize, position: usize, patch: &mut Vec<i8>) {
        let channels = self.shape.group_channels();
        let first = group * channels;
        let [_, width, all] = self.shape.input;
        self.taps(position, |tap| match tap {
            Some([y, x]) => {
                let at = (y * width + x) * all + first;
                patch.extend_from_slice(&input[at..at + channels]);
            }
            None => patch.extend_from_slice(&self.padding[first..first + channels]),
        });
    }

    /// Calls `tap` with the input position of each tap, `None` for padding.
    fn taps(&self, position: usize, mut tap: impl FnMut(Option<[usize; 2]>)) {
        let ConvolutionShape { input, kernel, stride, padding, dilation, .. } = self.shape;
        let at = [position / self.output[1], position % self.output[1]];
        let inside = |axis: usize, k: usize| {
            (at[axis] * stride[axis] + k * dilation[axis])
                .checked_sub(padding[axis])
                .filter(|&index| index < input[axis])
        };
        for y in 0..kernel[0] {
            for x in 0..kernel[1] {
                tap(inside(0, y).zip(inside(1, x)).map(|(y, x)| [y, x]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_stride_dilation_and_groups_are_followed() {
        let shape = ConvolutionShape {
            input: [4, 5, 4],
            output_channels: 2,
            kernel: [2, 2],
            stride: [2, 1],
            padding: [1, 0, 1, 1],
            dilation: [2, 1],
            groups: 2,
        };
        let [height, width, _] = shape.output();
        assert_eq!([height, width], [2, 5]);
        let patches = Patches { shape, output: [height, width], padding: vec![-1, -2, -3, -4] };
        let input: Vec<i8> = (0..4 * 5 * 4).collect();
        let patch = |group: usize, position: usize| {
            let mut patch = vec![];
            patches.append(&input, group, position, &mut patch);
            patch
        };
        // The first position starts one row above the image; its second row of taps is row 1.
        assert_eq!(patch(0, 0), [-1, -2, -1, -2, 20, 21, 24, 25]);
        assert_eq!(patch(1, 0), [-3, -4, -3, -4, 22, 23, 26, 27]);
        // The last position's right taps are padding; its rows are 1 and 3.
        assert_eq!(patch(0, 9), [36, 37, -1, -2, 76, 77, -1, -2]);
        assert_eq!((patches.positions(), patches.depth()), (10, 8));
    }
}
