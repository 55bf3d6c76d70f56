//! Whether a picture is typical, and where it is not.

use resight_model_file::Activation;
use tract_nnef::internal::DatumType;

use super::classes::Classes;
use super::error::HeadError;
use crate::tensors::TensorFact;

/// The head of an inspection: two classes, what is typical and what is not, and a map of how far each
/// place is from what is typical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    classes: Classes,
    map: [usize; 2],
}

/// A rectangle of the network's input, in shares of its sides, each `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnomalousArea {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Width, above 0.
    pub width: f32,
    /// Height, above 0.
    pub height: f32,
}

impl Inspection {
    /// The class of what is not typical.
    pub const ANOMALY: usize = 1;

    /// The head for these outputs.
    ///
    /// # Errors
    /// Other outputs than `[1, 2]` and `[1, height, width, 1]` of f32.
    pub(super) fn new(outputs: &[TensorFact]) -> Result<Self, HeadError> {
        let [logits, map] = outputs else {
            return Err(HeadError::InspectionOutputs(outputs.len()));
        };
        let classes = Classes::new(std::slice::from_ref(logits), Activation::Softmax)?;
        match (map.datum_type, &*map.shape) {
            (DatumType::F32, &[1, height, width, 1]) if classes.len() == 2 && height * width > 0 => {
                Ok(Self { classes, map: [height, width] })
            }
            _ => Err(HeadError::Inspection { logits: logits.clone(), map: map.clone() }),
        }
    }

    /// What is typical and what is not.
    pub fn classes(&self) -> Classes {
        self.classes
    }

    /// Height and width of the map.
    pub fn map(&self) -> [usize; 2] {
        self.map
    }

    /// The area around the farthest place of a map, `[height][width]`: it grows by rows and columns as long
    /// as those hold a place that is more than half as far above the mean.
    pub fn area(&self, map: &[f32]) -> AnomalousArea {
        let [height, width] = self.map;
        let at = |y: usize, x: usize| map.get(y * width + x).copied().unwrap_or(0.0);
        let farther = |best: usize, place: usize| if map[place] > map[best] { place } else { best };
        let farthest = (0..map.len()).fold(0, farther);
        let mean = map.iter().sum::<f32>() / map.len().max(1) as f32;
        let level = f32::midpoint(map.get(farthest).copied().unwrap_or(0.0), mean);
        let (mut top, mut left) = (farthest / width, farthest % width);
        let (mut bottom, mut right) = (top + 1, left + 1);
        let row = |y: usize, left: usize, right: usize| (left..right).any(|x| at(y, x) > level);
        let column = |x: usize, top: usize, bottom: usize| (top..bottom).any(|y| at(y, x) > level);
        loop {
            if top > 0 && row(top - 1, left, right) {
                top -= 1;
            } else if bottom < height && row(bottom, left, right) {
                bottom += 1;
            } else if left > 0 && column(left - 1, top, bottom) {
                left -= 1;
            } else if right < width && column(right, top, bottom) {
                right += 1;
            } else {
                break;
            }
        }
        let share = |length: usize, whole: usize| length as f32 / whole as f32;
        AnomalousArea {
            left: share(left, width),
            top: share(top, height),
            width: share(right - left, width),
            height: share(bottom - top, height),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspection() -> Inspection {
        let outputs =
            [TensorFact::new(DatumType::F32, &[1, 2]), TensorFact::new(DatumType::F32, &[1, 4, 5, 1])];
        Inspection::new(&outputs).unwrap()
    }

    #[test]
    fn the_area_is_around_the_farthest_place() {
        let map = [
            1.0, 1.0, 1.0, 1.0, 1.0, //
            1.0, 6.0, 9.0, 1.0, 1.0, //
            1.0, 1.0, 7.0, 1.0, 6.0, //
            1.0, 1.0, 1.0, 1.0, 1.0,
        ];
        let found = inspection().area(&map);
        assert_eq!(found, AnomalousArea { left: 0.2, top: 0.25, width: 0.4, height: 0.5 });
        let all = inspection().area(&[2.0; 20]);
        assert_eq!(all, AnomalousArea { left: 0.0, top: 0.0, width: 0.2, height: 0.25 });
    }

    #[test]
    fn other_outputs_are_refused() {
        let fact = |shape: &[usize]| TensorFact::new(DatumType::F32, shape);
        let refused = |outputs: &[TensorFact]| Inspection::new(outputs).unwrap_err().to_string();
        assert_eq!(refused(&[fact(&[1, 2])]), "an inspection has two outputs, this network has 1");
        assert_eq!(
            refused(&[fact(&[1, 3]), fact(&[1, 4, 5, 1])]),
            "an inspection gives two logits and a map of f32, not 1x3 F32 and 1x4x5x1 F32"
        );
    }
}
