//! Whether a frame shows something else than the one that was classified last, seen on the network's own
//! input.
//!
//! The input is cut into blocks, and two numbers are taken of each: how far its mean has moved, which
//! finds what is faint and large, and the mean distance of its values, which finds what changes inside of
//! a block. What noise does to both is learnt from each frame and the one before: the median of all
//! blocks, which no object that moves in less than half of the picture can raise. A frame has changed if
//! more than one block in a hundred is clearly above the noise; the comparison is with the frame that was
//! classified last, so that what comes slowly is found too.
//!
//! Pure: frames come in, and nothing is allocated for them.

/// Blocks along the shorter side; a change of a 20th of the picture covers several whole blocks then.
const BLOCKS: usize = 28;

/// Shortest side of a block in pixels, so that noise averages out.
const SHORTEST: usize = 4;

/// Frames after which the noise counts as known.
const LEARN: u32 = 8;

/// Grey levels by which a mean may move, and a value may differ on average, whatever the noise: what JPEG
/// and automatic gain do to a still picture.
const LEAST: [f32; 2] = [2.0, 4.0];

/// Grey levels above which it is no noise.
const MOST: [f32; 2] = [24.0, 40.0];

/// How far above the median of the noise a block must be. The largest of a thousand means of Gaussian
/// noise is 5 times its median; the distances of single values hardly differ from block to block, but
/// bright parts are noisier than dark ones.
const ABOVE: [f32; 2] = [8.0, 2.5];

/// The share of a new value in the learnt noise when it is lower, and when it is higher: much that moves
/// must not pass for noise.
const FALLS: f32 = 1.0 / 8.0;
const RISES: f32 = 1.0 / 64.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Change {
    /// Values of a row, and rows.
    row: usize,
    rows: usize,
    /// Values of a row in a block, and its rows.
    block: [usize; 2],
    /// What was classified last.
    reference: Vec<i8>,
    /// The frame before.
    previous: Vec<i8>,
    current: Vec<i8>,
    /// How many frames were seen.
    seen: u32,
    classified: bool,
    /// Medians of the mean's way and of the distance, in grey levels.
    noise: [f32; 2],
    /// Of each block.
    measures: [Vec<f32>; 2],
}

impl Change {
    /// For inputs of so many rows and columns, `[row, column, channel]`.
    pub(crate) fn new(rows: usize, columns: usize, channels: usize) -> Self {
        let side = (rows.min(columns) / BLOCKS).max(SHORTEST);
        let row = columns * channels;
        let block = [(side * channels).min(row).max(1), side.min(rows).max(1)];
        let blocks = row.div_ceil(block[0]) * rows.div_ceil(block[1]);
        let values = || vec![0; row * rows];
        Self {
            row,
            rows,
            block,
            reference: values(),
            previous: values(),
            current: values(),
            seen: 0,
            classified: false,
            noise: [0.0; 2],
            measures: [vec![0.0; blocks], vec![0.0; blocks]],
        }
    }

    /// Whether this input, which follows the last one, must be classified.
    pub(crate) fn look(&mut self, input: &[i8]) -> bool {
        debug_assert_eq!(input.len(), self.current.len());
        std::mem::swap(&mut self.previous, &mut self.current);
        self.current.copy_from_slice(input);
        if self.seen > 0 {
            self.learn();
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen <= LEARN || !self.classified {
            return true;
        }
        self.measure(false);
        let limits: [f32; 2] =
            std::array::from_fn(|index| (self.noise[index] * ABOVE[index]).clamp(LEAST[index], MOST[index]));
        let [means, distances] = &self.measures;
        let above = |(mean, distance): &(&f32, &f32)| **mean > limits[0] || **distance > limits[1];
        let changed = means.iter().zip(distances).filter(above).count();
        changed > means.len() / 100
    }

    /// The last input was classified: what follows is compared with it.
    pub(crate) fn classified(&mut self) {
        self.reference.copy_from_slice(&self.current);
        self.classified = true;
    }

    /// Learns what noise does, from this frame and the one before.
    fn learn(&mut self) {
        self.measure(true);
        for (noise, measures) in self.noise.iter_mut().zip(&mut self.measures) {
            let middle = measures.len() / 2;
            let (_, median, _) = measures.select_nth_unstable_by(middle, f32::total_cmp);
            if self.seen <= LEARN {
                *noise += (*median - *noise) / self.seen as f32;
            } else {
                *noise += (*median - *noise) * if *median < *noise { FALLS } else { RISES };
            }
        }
    }

    /// Measures each block against the frame before, or against what was classified last.
    fn measure(&mut self, against_previous: bool) {
        let other = if against_previous { &self.previous } else { &self.reference };
        let [width, height] = self.block;
        let across = self.row.div_ceil(width);
        let [means, distances] = &mut self.measures;
        let bands = self.current.chunks(self.row * height).zip(other.chunks(self.row * height));
        for (band, (now, then)) in bands.enumerate() {
            let first = band * across;
            let (means, distances) =
                (&mut means[first..first + across], &mut distances[first..first + across]);
            means.fill(0.0);
            distances.fill(0.0);
            for (now, then) in now.chunks_exact(self.row).zip(then.chunks_exact(self.row)) {
                let blocks = now.chunks(width).zip(then.chunks(width));
                for ((now, then), (mean, distance)) in blocks.zip(means.iter_mut().zip(&mut *distances)) {
                    let (mut sum, mut total) = (0_i32, 0_i32);
                    for (now, then) in now.iter().zip(then) {
                        let way = i32::from(*now) - i32::from(*then);
                        sum += way;
                        total += way.abs();
                    }
                    *mean += sum as f32;
                    *distance += total as f32;
                }
            }
            let rows = height.min(self.rows - band * height);
            for (index, (mean, distance)) in means.iter_mut().zip(distances).enumerate() {
                let values = (width.min(self.row - index * width) * rows) as f32;
                *mean = (*mean / values).abs();
                *distance /= values;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use resight_fixtures::Random;

    use super::*;

    const SIDE: usize = 224;

    /// A scene with edges and a gradient, and noise of so many grey levels.
    struct Scene {
        random: Random,
        /// About Gaussian; each frame begins elsewhere in it.
        noise: Vec<f32>,
        /// Left, top, width, height and how much lighter.
        objects: Vec<([usize; 4], f32)>,
        light: f32,
    }

    impl Scene {
        fn new(seed: u64, noise: f32) -> Self {
            let mut random = Random::new(seed);
            let mut one = || (0..4).map(|_| random.unit() as f32 - 0.5).sum::<f32>() * 1.732 * noise;
            let noise = (0..SIDE * SIDE * 4).map(|_| one()).collect();
            Self { random, noise, objects: vec![], light: 0.0 }
        }

        fn frame(&mut self) -> Vec<i8> {
            let mut frame = Vec::with_capacity(SIDE * SIDE * 3);
            let begin = self.random.below(SIDE * SIDE);
            let mut noise = self.noise[begin..].iter();
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let stripes = if (x / 20 + y / 30) % 2 == 0 { 30.0 } else { 0.0 };
                    let mut value = 60.0 + x as f32 / 4.0 + stripes + self.light;
                    for ([left, top, width, height], lighter) in &self.objects {
                        if (*left..left + width).contains(&x) && (*top..top + height).contains(&y) {
                            value += lighter;
                        }
                    }
                    for _ in 0..3 {
                        let grey = (value + noise.next().unwrap_or(&0.0)).clamp(0.0, 255.0) as u8;
                        frame.push((grey ^ 128) as i8);
                    }
                }
            }
            frame
        }
    }

    /// Feeds a frame as inference does. Gives whether it was classified.
    fn feed(change: &mut Change, scene: &mut Scene) -> bool {
        let changed = change.look(&scene.frame());
        if changed {
            change.classified();
        }
        changed
    }

    fn learnt(scene: &mut Scene) -> Change {
        let mut change = Change::new(SIDE, SIDE, 3);
        (0..LEARN + 4).for_each(|_| {
            feed(&mut change, scene);
        });
        change
    }

    #[test]
    fn a_still_scene_is_classified_at_first_and_then_no_more() {
        for (seed, noise) in [(1, 0.0), (2, 1.0), (3, 4.0), (4, 12.0)] {
            let mut scene = Scene::new(seed, noise);
            let mut change = Change::new(SIDE, SIDE, 3);
            let classified: Vec<bool> = (0..40).map(|_| feed(&mut change, &mut scene)).collect();
            assert!(classified[..LEARN as usize].iter().all(|changed| *changed), "{noise}");
            assert!(!classified[LEARN as usize..].iter().any(|changed| *changed), "{noise}: {classified:?}");
        }
    }

    /// Squares and bars of 5 % of the picture, faint and strong, anywhere.
    #[test]
    fn no_change_of_a_20th_of_the_picture_is_missed() {
        for (noise, faintest) in [(0.5, 5.0), (4.0, 8.0), (12.0, 25.0)] {
            let mut scene = Scene::new(5, noise);
            let mut change = learnt(&mut scene);
            for size in [[51, 51], [26, 100], [12, 210], [210, 12]] {
                for (left, top) in [(0, 0), (3, 5), (9, 11)] {
                    for lighter in [faintest, -faintest, 80.0] {
                        scene.objects = vec![([left, top, size[0], size[1]], lighter)];
                        assert!(feed(&mut change, &mut scene), "{size:?} {left} {top} {lighter} at {noise}");
                        assert!(!feed(&mut change, &mut scene), "nothing new: {size:?} {lighter} at {noise}");
                        scene.objects.clear();
                        assert!(feed(&mut change, &mut scene), "gone: {size:?} {lighter} at {noise}");
                    }
                }
            }
        }
    }

    /// Whose blocks keep their means.
    #[test]
    fn another_pattern_of_the_same_brightness_is_a_change() {
        let mut scene = Scene::new(6, 2.0);
        let mut change = learnt(&mut scene);
        scene.objects = (0..13).map(|row| ([20, 20 + row * 4, 52, 2], 20.0)).collect();
        scene.objects.extend((0..13).map(|row| ([20, 22 + row * 4, 52, 2], -20.0)));
        assert!(feed(&mut change, &mut scene));
    }

    #[test]
    fn what_comes_slowly_is_found_and_what_moves_all_the_time_is_no_noise() {
        let mut scene = Scene::new(7, 1.0);
        let mut change = learnt(&mut scene);
        let found = (0..60).filter(|step| {
            scene.objects = vec![([60, 60, 60, 60], *step as f32 * 0.3)];
            feed(&mut change, &mut scene)
        });
        assert!((2..30).contains(&found.count()));
        for step in 0..200 {
            scene.objects = vec![([step % 100, 60, 60, 60], 50.0)];
            assert!(feed(&mut change, &mut scene), "{step}");
        }
        scene.objects = vec![([0, 150, 51, 51], 12.0)];
        assert!(feed(&mut change, &mut scene));
    }

    /// Frames of a real clip, as a network of the usual size sees them.
    fn clip(name: &str) -> Option<Vec<Vec<u8>>> {
        let path = resight_fixtures::shared()?.join("camera").join(name);
        let Ok(bytes) = std::fs::read(&path) else {
            resight_fixtures::skipped(&format!("RESIGHT_SHARED holds no camera/{name}"));
            return None;
        };
        let starts: Vec<usize> = memchr::memmem::find_iter(&bytes, &[0xff, 0xd8, 0xff]).collect();
        let ends = starts[1..].iter().copied().chain([bytes.len()]);
        let image = |(start, end): (&usize, usize)| image::load_from_memory(&bytes[*start..end]).unwrap();
        let frames = starts.iter().zip(ends).map(image);
        Some(
            frames
                .map(|frame| {
                    frame
                        .crop_imm(80, 0, 480, 480)
                        .resize_exact(SIDE as u32, SIDE as u32, image::imageops::FilterType::Triangle)
                        .to_rgb8()
                        .into_raw()
                })
                .collect(),
        )
    }

    /// What a camera makes of a picture: noise, and JPEG.
    fn taken(picture: &[u8], noise: f32, random: &mut Random) -> Vec<i8> {
        let noisy = picture.iter().map(|grey| {
            let sum: f32 = (0..4).map(|_| random.unit() as f32 - 0.5).sum();
            (f32::from(*grey) + sum * 1.732 * noise).clamp(0.0, 255.0) as u8
        });
        let picture = image::RgbImage::from_raw(SIDE as u32, SIDE as u32, noisy.collect()).unwrap();
        let mut bytes = std::io::Cursor::new(vec![]);
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        let decoded = image::load_from_memory(bytes.get_ref()).unwrap().to_rgb8().into_raw();
        decoded.into_iter().map(|grey| (grey ^ 128) as i8).collect()
    }

    #[test]
    fn in_real_clips_nothing_is_missed_and_a_still_scene_stays_one() {
        let (Some(scenes), Some(others)) =
            (clip("bottle-detection_640x480_30f.mjpeg"), clip("car-detection_640x480_30f.mjpeg"))
        else {
            return;
        };
        let mut random = Random::new(9);
        for (scene, noise) in [(&scenes[0], 1.0), (&others[0], 3.0), (&scenes[20], 6.0)] {
            let mut change = Change::new(SIDE, SIDE, 3);
            let (mut still, mut needless, mut missed, mut shown) = (0, 0, 0, 0);
            let mut feed = |picture: &[u8], random: &mut Random| {
                let changed = change.look(&taken(picture, noise, random));
                if changed {
                    change.classified();
                }
                changed
            };
            (0..=LEARN).for_each(|_| {
                feed(scene, &mut random);
            });
            for _ in 0..30 {
                for _ in 0..3 {
                    still += 1;
                    needless += usize::from(feed(scene, &mut random));
                }
                // A part of another picture, 5 % of this one, anywhere.
                let mut picture = scene.clone();
                let other = &others[random.below(others.len())];
                let side = 51;
                let [to_x, to_y, from_x, from_y] = [0; 4].map(|_| random.below(SIDE - side));
                let mut differs = 0;
                for row in 0..side {
                    let to = ((to_y + row) * SIDE + to_x) * 3;
                    let from = ((from_y + row) * SIDE + from_x) * 3;
                    for (to, from) in picture[to..to + side * 3].iter_mut().zip(&other[from..]) {
                        differs += usize::from(to.abs_diff(*from));
                        *to = *from;
                    }
                }
                // Grey on the same grey is no change.
                if differs > 10 * side * side * 3 {
                    shown += 1;
                    missed += usize::from(!feed(&picture, &mut random));
                    feed(scene, &mut random);
                }
            }
            assert!(shown > 10 && missed == 0, "{missed} of {shown} missed at noise {noise}");
            assert!(needless * 50 <= still, "{needless} of {still} frames of a still scene at noise {noise}");
        }
    }

    #[test]
    fn frames_allocate_nothing() {
        let mut change = Change::new(100, 75, 1);
        let frames = [vec![0; 7500], vec![90; 7500]];
        let counts = allocation_counter::measure(|| {
            for index in 0..40 {
                if change.look(&frames[index / 7 % 2]) {
                    change.classified();
                }
            }
        });
        assert_eq!(counts.count_total, 0);
    }

    #[test]
    fn small_inputs_have_blocks_too() {
        for (rows, columns, channels) in [(1, 1, 1), (32, 32, 3), (3, 500, 3), (33, 47, 1)] {
            let mut change = Change::new(rows, columns, channels);
            let still = vec![10; rows * columns * channels];
            for _ in 0..=LEARN {
                if change.look(&still) {
                    change.classified();
                }
            }
            assert!(!change.look(&still));
            assert!(change.look(&vec![60; still.len()]), "{rows} {columns} {channels}");
        }
    }
}
