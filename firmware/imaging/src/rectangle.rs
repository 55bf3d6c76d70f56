//! Rectangles in shares of what they lie in.

/// A rectangle in shares of a picture's sides, which may reach beyond them: left, top, width, height.
pub type Rectangle = [f32; 4];

/// Of a rectangle in shares of `outer`, where it lies in what `outer` itself is a rectangle of.
pub fn within([left, top, width, height]: Rectangle, outer: Rectangle) -> Rectangle {
    [outer[0] + left * outer[2], outer[1] + top * outer[3], width * outer[2], height * outer[3]]
}

/// The part of a rectangle that is in the picture; empty if there is none.
pub fn clipped([left, top, width, height]: Rectangle) -> Rectangle {
    let share = |value: f32| value.clamp(0.0, 1.0);
    let [right, bottom] = [share(left + width), share(top + height)];
    let [left, top] = [share(left), share(top)];
    [left, top, right - left, bottom - top]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fit, ImageView, Orientation, Preprocessing, Preprocessor, Rotation};

    #[test]
    fn what_is_covered_follows_from_the_fit() {
        let covered = |fit, size| {
            let preprocessing =
                Preprocessing { fit, resize_shorter: 256, crop: [192, 224], ..Preprocessing::default() };
            preprocessing.placement(size, Orientation::default()).rectangle([0.0, 0.0, 1.0, 1.0])
        };
        assert_eq!(covered(Fit::Squash, [480, 640]), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(covered(Fit::Crop, [256, 512]), [144.0 / 512.0, 32.0 / 256.0, 224.0 / 512.0, 0.75]);
        // 112 columns and 192 rows of it are the picture.
        assert_eq!(covered(Fit::Letterbox, [1920, 1120]), [-0.5, 0.0, 2.0, 1.0]);
    }

    #[test]
    fn turned_rectangles_are_where_their_pixels_came_from() {
        // A white pixel in a black picture is found in the input, and led back.
        let (height, width) = (6_usize, 8_usize);
        let [row, column] = [1, 6];
        let mut pixels = vec![0; height * width * 3];
        pixels[(row * width + column) * 3..][..3].fill(255);
        for rotation in [Rotation::Upright, Rotation::Clockwise, Rotation::Half, Rotation::Counterclockwise] {
            for mirror in [false, true] {
                let orientation = Orientation { rotation, mirror };
                let crop = if orientation.is_sideways() { [8, 6] } else { [6, 8] };
                let preprocessing =
                    Preprocessing { fit: Fit::Squash, resize_shorter: 8, crop, ..Preprocessing::default() };
                let mut preprocessor = Preprocessor::new(&preprocessing).unwrap();
                preprocessor.set_orientation(orientation);
                let image = ImageView::rgb(&pixels, [height as u32, width as u32]).unwrap();
                let found = preprocessor.crop(&image).iter().position(|value| *value == 255).unwrap() / 3;
                let [rows, columns] = crop.map(|side| side as f32);
                let [y, x] = [found / crop[1] as usize, found % crop[1] as usize].map(|at| at as f32);
                let seen = [x / columns, y / rows, 1.0 / columns, 1.0 / rows];
                let before = preprocessing.placement([6, 8], orientation).rectangle(seen);
                let expected = [6.0 / 8.0, 1.0 / 6.0, 1.0 / 8.0, 1.0 / 6.0];
                let near = before.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
                assert!(near, "{orientation:?}: {before:?}");
            }
        }
        assert_eq!(clipped([-0.5, 0.25, 1.0, 1.0]), [0.0, 0.25, 0.5, 0.75]);
    }
}
