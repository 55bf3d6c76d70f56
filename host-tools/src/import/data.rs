//! A result of the network under the dimensions that an ONNX tensor has.

use super::limits::{LimitFault, check_activation};

/// What a dimension of an ONNX tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    Batch,
    Channels,
    Height,
    Width,
    /// The channels in so many groups: which group.
    Outer(usize),
    /// The channels of a group in so many parts: which part of the group.
    Middle(usize),
    /// The channels in groups: which channel of the group, or of its part.
    Inner,
    /// Channels, rows and columns in this order as one dimension.
    Features,
    /// A dimension of 1 that the operation's result does not have.
    One,
}

/// The dimensions of an ONNX tensor in their order; each but [`Axis::One`] at most once.
pub(super) type Layout = Vec<Axis>;

/// `[batch, channels, height, width]`.
pub(super) const NCHW: [Axis; 4] = [Axis::Batch, Axis::Channels, Axis::Height, Axis::Width];
/// `[batch, height, width, channels]`.
pub(super) const NHWC: [Axis; 4] = [Axis::Batch, Axis::Height, Axis::Width, Axis::Channels];
/// `[batch, features]`.
pub(super) const FLAT: [Axis; 2] = [Axis::Batch, Axis::Channels];

/// A view of an operation's result.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) operation: usize,
    /// `[channels, height, width]` of the result.
    pub(super) shape: [usize; 3],
    /// Zeros around it that are yet to be folded, `[top, left, bottom, right]`.
    pub(super) padding: [usize; 4],
    /// How the ONNX tensor holds it. Height or width may be missing where they are 1.
    pub(super) layout: Layout,
}

impl Axis {
    /// Its place in the order of channels, rows and columns.
    pub(super) fn rank(self) -> usize {
        match self {
            Axis::Batch => 0,
            Axis::Channels | Axis::Features => 1,
            Axis::Outer(_) => 2,
            Axis::Middle(_) => 3,
            Axis::Inner => 4,
            Axis::Height => 5,
            Axis::Width => 6,
            Axis::One => 7,
        }
    }
}

impl Data {
    /// The groups that the channels are divided into.
    pub(super) fn groups(&self) -> usize {
        let groups = |axis: &Axis| if let Axis::Outer(groups) = axis { Some(*groups) } else { None };
        self.layout.iter().find_map(groups).unwrap_or(1)
    }

    /// The parts that the channels of a group are divided into.
    pub(super) fn parts(&self) -> usize {
        let parts = |axis: &Axis| if let Axis::Middle(parts) = axis { Some(*parts) } else { None };
        self.layout.iter().find_map(parts).unwrap_or(1)
    }

    /// `[channels, height, width]` with the pending padding.
    pub(super) fn padded(&self) -> [usize; 3] {
        let ([c, h, w], padding) = (self.shape, self.padding);
        [c, h + padding[0] + padding[2], w + padding[1] + padding[3]]
    }

    /// As [`padded`](Self::padded), refused where it is too large to compute with.
    pub(super) fn checked(&self) -> Result<[usize; 3], LimitFault> {
        let shape = self.padded();
        check_activation(&shape).map(|()| shape)
    }

    /// The size of a dimension, with the pending padding; the batch is one image.
    pub(super) fn size(&self, axis: Axis) -> usize {
        let [channels, height, width] = self.padded();
        match axis {
            Axis::Channels => channels,
            Axis::Outer(count) | Axis::Middle(count) => count,
            Axis::Inner => channels / (self.groups() * self.parts()).max(1),
            Axis::Features => channels * height * width,
            Axis::Height => height,
            Axis::Width => width,
            Axis::Batch | Axis::One => 1,
        }
    }

    /// The dimensions of the ONNX tensor for a batch of one.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.layout.iter().map(|&axis| self.size(axis)).collect()
    }

    /// Whether the dimension is no more than a 1 that comes and goes.
    pub(super) fn is_unit(&self, axis: Axis) -> bool {
        match axis {
            Axis::One => true,
            Axis::Height | Axis::Width => self.size(axis) == 1,
            Axis::Batch
            | Axis::Channels
            | Axis::Outer(_)
            | Axis::Middle(_)
            | Axis::Inner
            | Axis::Features => false,
        }
    }

    /// Whether the tensor is `[batch, channels, height, width]`.
    pub(super) fn is_image(&self) -> bool {
        self.has_layout(&NCHW)
    }

    /// Whether the tensor is `[batch, features]`.
    pub(super) fn is_flat(&self) -> bool {
        self.layout == FLAT
    }

    /// Whether the tensor's dimensions are these, where one 1 is as good as another.
    pub(super) fn has_layout(&self, layout: &[Axis]) -> bool {
        self.layout.len() == layout.len()
            && self
                .layout
                .iter()
                .zip(layout)
                .all(|(&own, &other)| own == other || (self.is_unit(own) && self.is_unit(other)))
    }

    /// Whether the tensor's values have another order than channels, rows, columns.
    pub(super) fn is_reordered(&self) -> bool {
        let large = self.layout.iter().filter(|&&axis| self.size(axis) > 1);
        !large.map(|axis| axis.rank()).is_sorted()
    }
}

/// A layout as people write it.
pub(super) fn shown_layout(layout: &[Axis]) -> String {
    let names = layout.iter().map(|axis| match axis {
        Axis::Batch => "batch",
        Axis::Channels => "channels",
        Axis::Height => "height",
        Axis::Width => "width",
        Axis::Outer(_) => "groups",
        Axis::Middle(_) => "parts of a group",
        Axis::Inner => "channels of a group",
        Axis::Features => "features",
        Axis::One => "1",
    });
    format!("[{}]", names.collect::<Vec<_>>().join(", "))
}
