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
    /// Scale and offset, as above, with which it is rounded to whole grey levels, if it is.
    pub levels: Option<[Vec<f64>; 2]>,
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
            levels: None,
        }
    }

    /// Then `scale[c] * x + offset[c]`.
    pub(super) fn scale(&mut self, scale: &[f64], offset: &[f64]) {
        for (channel, (factor, term)) in scale.iter().zip(offset).enumerate() {
            self.scale[channel] *= factor;
            self.offset[channel] = self.offset[channel] * factor + term;
        }
    }

    /// Then rounded to whole grey levels.
    pub(super) fn round(&mut self) {
        self.levels = Some([self.scale.clone(), self.offset.clone()]);
    }

    /// Whether what is rounded to whole grey levels is that already, where `[mean, deviation]` of each channel
    /// make of grey levels from 0 to 1 what the first operation takes.
    pub fn rounds_nothing(&self, normalisation: &[[f32; 2]]) -> bool {
        let Some([scale, offset]) = &self.levels else { return true };
        normalisation.iter().enumerate().all(|(channel, &[mean, deviation])| {
            let factor = self.scale[channel] / scale[channel];
            let term = self.offset[channel] - factor * offset[channel];
            [0.0, 255.0].into_iter().all(|level| {
                let value = (level / 255.0 - f64::from(mean)) / f64::from(deviation);
                ((value - term) / factor - level).abs() < 0.25
            })
        })
    }

    /// Mean and deviation of each channel, of values from 0 to 1, behind the preparation of values that have
    /// these before it.
    pub fn of(&self, normalisation: &[[f32; 2]]) -> Vec<[f32; 2]> {
        let of_channel = |(channel, &from): (usize, &usize)| {
            let [mean, deviation] = normalisation[from].map(f64::from);
            let prepared = deviation / self.scale[channel];
            [(mean - self.offset[channel] * prepared) as f32, prepared as f32]
        };
        self.channels.iter().enumerate().map(of_channel).collect()
    }

    /// Then channel `order[c]` as channel `c`.
    pub(super) fn reorder(&mut self, order: &[usize]) {
        let reordered = |values: &[f64]| order.iter().map(|&channel| values[channel]).collect();
        self.levels = self.levels.as_ref().map(|levels| levels.each_ref().map(|values| reordered(values)));
        self.scale = reordered(&self.scale);
        self.offset = reordered(&self.offset);
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

    #[test]
    fn a_normalisation_is_known_behind_the_preparation() {
        let mut preparation = Preparation::none(2, false);
        // From -1 to 1 to grey levels less 100, and the channels exchanged.
        preparation.scale(&[127.5, 127.5], &[27.5, 27.5]);
        preparation.reorder(&[1, 0]);
        let prepared = preparation.of(&[[0.5, 0.5], [0.25, 0.5]]);
        // (level / 255 - 0.5) / 0.5 * 127.5 + 27.5 = level - 100.
        let level = |[mean, deviation]: [f32; 2]| (51.0 / 255.0 - mean) / deviation;
        assert!((level(prepared[1]) + 49.0).abs() < 1e-4, "{prepared:?}");
        assert!((level(prepared[0]) - 14.75).abs() < 1e-4, "{prepared:?}");
    }

    #[test]
    fn whole_levels_are_known_by_what_is_before_and_behind() {
        let mut preparation = Preparation::none(3, false);
        let normalisation = [[0.5, 0.25], [0.25, 0.5], [0.125, 0.25]];
        assert!(preparation.rounds_nothing(&normalisation));
        preparation.scale(&[63.75, 127.5, 63.75], &[127.5, 63.75, 31.875]);
        preparation.round();
        // From levels to what the first operation takes.
        let behind = |[mean, deviation]: [f32; 2]| [255.0 * mean, deviation * 255.0].map(f64::from);
        let behind = normalisation.map(behind);
        preparation.scale(
            &behind.map(|[_, deviation]| 1.0 / deviation),
            &behind.map(|[mean, deviation]| -mean / deviation),
        );
        assert!(preparation.rounds_nothing(&normalisation));
        preparation.reorder(&[2, 0, 1]);
        assert!(preparation.rounds_nothing(&[normalisation[2], normalisation[0], normalisation[1]]));
        assert!(!preparation.rounds_nothing(&normalisation));
    }
}
