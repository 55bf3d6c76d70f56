//! What a network does with the image before its first operation.

/// Value `c` that the first operation takes of a pixel is
/// `scale[c] * x[channels[c]] + offset[c]`, where `x` is what the network is given.
///
/// Networks that carry their own normalisation (`Sub` and `Div`, `Mul` by 1/255, a batch
/// normalisation on the input), or that take the channels in another order, say so here; the nodes
/// that do it are in neither form of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    /// One positive factor per channel.
    pub scale: Vec<f64>,
    /// One per channel.
    pub offset: Vec<f64>,
    /// The channel of the network's input that each one is.
    pub channels: Vec<usize>,
    /// Whether the network normalises the image, here or in its first operations.
    pub is_normalised: bool,
    /// Whether the input is of whole numbers, which can only be grey levels from 0 to 255.
    pub grey_levels: bool,
}

impl Preparation {
    /// The image as it is.
    pub(super) fn none(channels: usize, grey_levels: bool) -> Preparation {
        Preparation {
            scale: vec![1.0; channels],
            offset: vec![0.0; channels],
            channels: (0..channels).collect(),
            is_normalised: false,
            grey_levels,
        }
    }

    /// Then `scale[c] * x + offset[c]`.
    pub(super) fn scale(&mut self, scale: &[f64], offset: &[f64]) {
        for (channel, (factor, term)) in scale.iter().zip(offset).enumerate() {
            self.scale[channel] *= factor;
            self.offset[channel] = self.offset[channel] * factor + term;
        }
    }

    /// Then channel `order[c]` as channel `c`.
    pub(super) fn reorder(&mut self, order: &[usize]) {
        self.scale = order.iter().map(|&channel| self.scale[channel]).collect();
        self.offset = order.iter().map(|&channel| self.offset[channel]).collect();
        self.channels = order.iter().map(|&channel| self.channels[channel]).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other() {
        let mut preparation = Preparation::none(3, false);
        preparation.scale(&[2.0, 3.0, 4.0], &[1.0, 1.0, 1.0]);
        preparation.reorder(&[2, 1, 0]);
        preparation.scale(&[10.0; 3], &[0.0, 0.0, 5.0]);
        assert_eq!(preparation.scale, [40.0, 30.0, 20.0]);
        assert_eq!(preparation.offset, [10.0, 10.0, 15.0]);
        assert_eq!(preparation.channels, [2, 1, 0]);
    }
}
