//! What the calibration pictures are like, so that a poor set is not taken in silence.

use std::fmt;

use serde::Serialize;

/// Fewer pictures than this are too few to choose ranges by.
const FEW: usize = 32;
/// Pictures whose brightest hundredth of grey levels is below this are dark.
const DARK: usize = 96;
/// Pictures are alike when half of their pairs differ less than this, in grey levels.
const ALIKE: f64 = 8.0;
/// Percent of the pictures that f32 takes for one class, above which they show nothing else.
const ONE_CLASS: f64 = 90.0;
/// Pictures whose pairs are compared.
const COMPARED: usize = 512;
/// Side of the thumbnails that are compared.
const THUMBNAIL: usize = 16;

/// Something about the calibration pictures that makes a worse network, with its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum PictureFault {
    /// There are few.
    Few {
        /// How many there are.
        pictures: usize,
    },
    /// They are dark.
    Dark {
        /// The grey level that 99 % of their pixels do not exceed, 0 to 255.
        brightest: usize,
    },
    /// They are nearly the same.
    Alike {
        /// Median over all pairs of their mean difference in grey levels.
        difference: f64,
    },
    /// The f32 network takes nearly all for the same class.
    OneClass {
        /// Which class.
        class: usize,
        /// Share of the pictures, percent.
        percent: f64,
    },
}

impl fmt::Display for PictureFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Few { pictures: 1 } => write!(
                f,
                "there is one calibration picture; ranges that were chosen by it may cut off what other pictures need: give some 200"
            ),
            Self::Few { pictures } => write!(
                f,
                "there are only {pictures} calibration pictures; ranges that were chosen by them may cut off what other pictures need: give some 200"
            ),
            Self::Dark { brightest } => write!(
                f,
                "the calibration pictures are dark: 99 % of their grey levels are at most {brightest} of 255; if the camera sees brighter scenes, add pictures of those"
            ),
            Self::Alike { difference } => write!(
                f,
                "the calibration pictures are nearly the same: half of all pairs differ by less than {difference:.1} of 255 grey levels; add pictures of other scenes"
            ),
            Self::OneClass { class, percent } => write!(
                f,
                "the f32 network takes {percent:.0} % of the calibration pictures for class {class}; add pictures of the other classes"
            ),
        }
    }
}

/// What was gathered of the pictures.
#[derive(Debug, Clone)]
pub struct PictureStatistics {
    pictures: usize,
    levels: Vec<u64>,
    /// Grey levels of small versions, each with its picture's index.
    thumbnails: Vec<(usize, Vec<u8>)>,
    /// How often each class was the best.
    classes: Vec<usize>,
}

impl PictureStatistics {
    /// Of no picture, for a network of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { pictures: 0, levels: vec![0; 256], thumbnails: vec![], classes: vec![0; classes] }
    }

    /// Adds the picture at `index`: grey levels - 128, `[height][width][channels]`, and the
    /// logits that f32 has for it.
    pub fn add(&mut self, index: usize, image: &[i8], [height, width, channels]: [usize; 3], logits: &[f32]) {
        self.pictures += 1;
        for &level in image {
            self.levels[(i32::from(level) + 128) as usize] += 1;
        }
        if index < COMPARED {
            self.thumbnails.push((index, thumbnail(image, [height, width, channels])));
        }
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class);
        if let Some(count) = best.and_then(|class| self.classes.get_mut(class)) {
            *count += 1;
        }
    }

    /// Adds what was gathered of other pictures.
    pub fn merge(&mut self, other: Self) {
        self.pictures += other.pictures;
        self.levels.iter_mut().zip(other.levels).for_each(|(sum, more)| *sum += more);
        self.classes.iter_mut().zip(other.classes).for_each(|(sum, more)| *sum += more);
        self.thumbnails.extend(other.thumbnails);
    }

    /// What is wrong with the pictures as a calibration set.
    pub fn faults(&self) -> Vec<PictureFault> {
        let mut faults = vec![];
        if self.pictures < FEW {
            faults.push(PictureFault::Few { pictures: self.pictures });
        }
        let brightest = self.brightest();
        if brightest < DARK {
            faults.push(PictureFault::Dark { brightest });
        }
        if let Some(difference) = self.median_difference().filter(|&difference| difference < ALIKE) {
            faults.push(PictureFault::Alike { difference });
        }
        let most = self.classes.iter().enumerate().max_by_key(|&(class, &count)| (count, usize::MAX - class));
        if let Some((class, &count)) = most {
            let percent = 100.0 * count as f64 / self.pictures.max(1) as f64;
            if self.pictures > 1 && self.classes.len() > 1 && percent > ONE_CLASS {
                faults.push(PictureFault::OneClass { class, percent });
            }
        }
        faults
    }

    /// The grey level that 99 % of all do not exceed.
    fn brightest(&self) -> usize {
        let total: u64 = self.levels.iter().sum();
        let mut above = 0;
        for (level, count) in self.levels.iter().enumerate().rev() {
            above += count;
            if above * 100 > total {
                return level;
            }
        }
        0
    }

    /// Median over all pairs of their mean difference in grey levels; `None` below two pictures.
    fn median_difference(&self) -> Option<f64> {
        let mut differences: Vec<u64> = vec![];
        for (index, (_, one)) in self.thumbnails.iter().enumerate() {
            for (_, other) in &self.thumbnails[..index] {
                differences.push(one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum());
            }
        }
        differences.sort_unstable();
        let median = *differences.get(differences.len() / 2)?;
        Some(median as f64 / (THUMBNAIL * THUMBNAIL) as f64)
    }
}

/// Mean grey levels of a grid of 16 x 16 fields.
fn thumbnail(image: &[i8], [height, width, channels]: [usize; 3]) -> Vec<u8> {
    let edges = |index: usize, size: usize| {
        let first = index * size / THUMBNAIL;
        first..((index + 1) * size / THUMBNAIL).clamp(first + 1, size.max(first + 1))
    };
    let mut fields = Vec::with_capacity(THUMBNAIL * THUMBNAIL);
    for row in 0..THUMBNAIL {
        for column in 0..THUMBNAIL {
            let (mut sum, mut count) = (0i64, 0i64);
            for y in edges(row, height) {
                let columns = edges(column, width);
                let line =
                    &image[(y * width + columns.start) * channels..(y * width + columns.end) * channels];
                sum += line.iter().map(|&level| i64::from(level) + 128).sum::<i64>();
                count += line.len() as i64;
            }
            fields.push((sum / count.max(1)) as u8);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [32, 32, 3];

    /// Squares of different grey levels, different in each picture.
    fn picture(seed: usize, brightness: f64) -> Vec<i8> {
        let level = |at: usize| {
            let (row, column) = (at / 96 / 4, at % 96 / 12);
            let level = (seed * 7919 + row * 104_729 + column * 1299) * 2654435761 % 256;
            (level as f64 * brightness) as i32 - 128
        };
        (0..32 * 32 * 3).map(|at| level(at) as i8).collect()
    }

    fn statistics(pictures: impl Iterator<Item = (Vec<i8>, usize)>) -> PictureStatistics {
        let mut statistics = PictureStatistics::new(4);
        for (index, (image, class)) in pictures.enumerate() {
            let mut logits = [0.0; 4];
            logits[class] = 1.0;
            let mut one = PictureStatistics::new(4);
            one.add(index, &image, SHAPE, &logits);
            statistics.merge(one);
        }
        statistics
    }

    #[test]
    fn a_good_set_is_taken_without_a_word() {
        let good = statistics((0..40).map(|index| (picture(index, 1.0), index % 4)));
        assert_eq!(good.faults(), []);
    }

    #[test]
    fn what_is_wrong_is_said_with_figures() {
        let one = statistics((0..1).map(|index| (picture(index, 1.0), 0)));
        assert_eq!(one.faults(), [PictureFault::Few { pictures: 1 }]);

        let dark = statistics((0..40).map(|index| (picture(index, 0.1), index % 4))).faults();
        assert!(dark.contains(&PictureFault::Dark { brightest: 25 }), "{dark:?}");

        let alike = statistics((0..40).map(|index| (picture(0, 1.0), index % 4))).faults();
        assert_eq!(alike, [PictureFault::Alike { difference: 0.0 }]);

        let class =
            statistics((0..40).map(|index| (picture(index, 1.0), usize::from(index > 0) * 2))).faults();
        assert_eq!(class, [PictureFault::OneClass { class: 2, percent: 97.5 }]);
    }

    #[test]
    fn small_images_have_thumbnails_too() {
        let fields = thumbnail(&[10; 3 * 2 * 3], [3, 2, 3]);
        assert_eq!(fields, vec![138; THUMBNAIL * THUMBNAIL]);
    }

    #[test]
    fn messages_name_figure_and_remedy() {
        let text = PictureFault::Dark { brightest: 25 }.to_string();
        assert!(text.contains("at most 25 of 255") && text.contains("add pictures"), "{text}");
        let text = PictureFault::Alike { difference: 1.25 }.to_string();
        assert!(text.contains("less than 1.2 of 255") || text.contains("less than 1.3 of 255"), "{text}");
    }
}
