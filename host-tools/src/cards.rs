//! The marker cards, and clips of them before a camera, for demonstrations and tests.
//!
//! The cards' geometry comes from `models/markers/cards.py`, which also draws the sheets to print.
//! The scenes here are not those that the bundled network was trained on: other code, other
//! backgrounds, other movements.

mod conveyor;

use std::f64::consts::PI;

use resight_imaging::RgbImage;
use serde::Deserialize;

pub use self::conveyor::{Conveyor, Seen};

/// Width and height of a clip's frames in pixels.
pub const FRAME: (u32, u32) = (640, 480);

/// Frames for which a card is shown, entering and leaving included.
const SHOW: usize = 26;
/// Frames between two cards.
const PAUSE: usize = 6;

/// Side of a card's texture in pixels.
const TEXTURE: usize = 384;
/// Samples of a texture's pixel in each direction.
const SAMPLES: usize = 4;

/// Distance of the camera, as a multiple of the frame's height.
const FOCAL: f64 = 1.6;

/// A marker card: black polygons in a white square.
#[derive(Debug, Deserialize)]
pub struct Card {
    /// What it is called; also the class of the bundled network.
    pub name: String,
    /// Corners in a square from (0, 0), top left, to (1, 1); filled by the even-odd rule.
    pub polygons: Vec<Vec<[f64; 2]>>,
}

/// The twelve cards in the order of the network's classes.
pub fn cards() -> Vec<Card> {
    // The file is part of the program, and a test reads it.
    serde_json::from_str(include_str!("../../models/markers/cards.json")).unwrap_or_default()
}

impl Card {
    /// Whether a point of the card is black.
    fn is_black(&self, x: f64, y: f64) -> bool {
        let crossings = |polygon: &Vec<[f64; 2]>| {
            let previous = polygon.iter().cycle().skip(polygon.len().saturating_sub(1));
            let edges = polygon.iter().zip(previous);
            edges
                .filter(|(a, b)| {
                    (a[1] > y) != (b[1] > y) && x < a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1])
                })
                .count()
        };
        self.polygons.iter().map(crossings).sum::<usize>() % 2 == 1
    }

    /// How black each pixel is, `TEXTURE` x `TEXTURE`, from 0 to 1.
    fn texture(&self) -> Vec<f32> {
        let at = |index: usize| (index as f64 + 0.5) / (TEXTURE * SAMPLES) as f64;
        let black = |x: usize, y: usize| {
            let samples = (0..SAMPLES * SAMPLES)
                .filter(|s| self.is_black(at(x * SAMPLES + s % SAMPLES), at(y * SAMPLES + s / SAMPLES)));
            samples.count() as f32 / (SAMPLES * SAMPLES) as f32
        };
        (0..TEXTURE * TEXTURE).map(|index| black(index % TEXTURE, index / TEXTURE)).collect()
    }
}

/// What a frame of a clip shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A whole card, by its number.
    Card(usize),
    /// A card that enters or leaves: either answer is right.
    Passing,
    /// No card.
    Nothing,
}

/// All cards passing before a camera, one after another.
#[derive(Debug)]
pub struct Clip {
    textures: Vec<Vec<f32>>,
    background: Vec<[f32; 3]>,
    seed: u32,
}

impl Clip {
    /// A clip whose background and movements depend on `seed`.
    pub fn new(seed: u32) -> Self {
        Self { textures: cards().iter().map(Card::texture).collect(), background: background(seed), seed }
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.textures.len() * (SHOW + PAUSE)
    }

    /// Whether there is no frame, which is never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What frame `index` shows.
    pub fn shown(&self, index: usize) -> Shown {
        let (card, frame) = ((index / (SHOW + PAUSE)) % self.textures.len(), index % (SHOW + PAUSE));
        match frame.checked_sub(PAUSE) {
            None => Shown::Nothing,
            Some(frame) if (0.3..=0.7).contains(&progress(frame)) => Shown::Card(card),
            Some(_) => Shown::Passing,
        }
    }

    /// Frame `index`, of the size [`FRAME`].
    pub fn frame(&self, index: usize) -> RgbImage {
        let mut scene = self.background.clone();
        let (number, frame) = ((index / (SHOW + PAUSE)) % self.textures.len(), index % (SHOW + PAUSE));
        if let Some(frame) = frame.checked_sub(PAUSE) {
            let pose = Pose::new(self.seed, number, progress(frame));
            pose.draw_arm(&mut scene);
            pose.draw_card(&mut scene, &self.textures[number]);
            pose.draw_thumb(&mut scene);
        }
        noisy(&scene, self.seed, index)
    }
}

/// A scene as a camera gives it, with the noise of frame `index`.
fn noisy(scene: &[[f32; 3]], seed: u32, index: usize) -> RgbImage {
    let (width, _) = FRAME;
    RgbImage::from_fn(FRAME.0, FRAME.1, |x, y| {
        let pixel = scene[(y * width + x) as usize];
        let noise = 9.0 * (hash(seed ^ 0x5eed, x + y * width, index as u32) - 0.5);
        pixel.map(|value| (value + noise).round().clamp(0.0, 255.0) as u8).into()
    })
}

/// From 0, a card begins to enter, to 1, it has left.
fn progress(frame: usize) -> f64 {
    frame as f64 / (SHOW - 1) as f64
}

/// A number from 0 to 1 that depends on all three.
fn hash(seed: u32, a: u32, b: u32) -> f32 {
    let mut h = seed ^ a.wrapping_mul(0x9e37_79b1) ^ b.wrapping_mul(0x85eb_ca77);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    (h ^ (h >> 15)) as f32 / u32::MAX as f32
}

/// Smooth noise from 0 to 1 with features of about `scale` pixels.
fn smooth(seed: u32, x: f32, y: f32, scale: f32) -> f32 {
    let (x, y) = (x / scale, y / scale);
    let corner = |dx: u32, dy: u32| hash(seed, x as u32 + dx, y as u32 + dy);
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x.fract()), ease(y.fract()));
    let top = corner(0, 0) * (1.0 - u) + corner(1, 0) * u;
    let bottom = corner(0, 1) * (1.0 - u) + corner(1, 1) * u;
    top * (1.0 - v) + bottom * v
}

/// A wall, a table with a grain, a window's light and a few boxes on the table.
fn background(seed: u32) -> Vec<[f32; 3]> {
    let (width, height) = (FRAME.0 as f32, FRAME.1 as f32);
    let pick = |index: u32| hash(seed, index, 77);
    let wall = [150.0 + 60.0 * pick(0), 145.0 + 60.0 * pick(1), 135.0 + 60.0 * pick(2)];
    let table = [110.0 + 50.0 * pick(3), 75.0 + 40.0 * pick(4), 45.0 + 40.0 * pick(5)];
    let edge = height * (0.62 + 0.15 * pick(6));
    let boxes: Vec<[f32; 7]> = (0..5)
        .map(|index| {
            let value = |which: u32| hash(seed, index, which);
            let (w, h) = (40.0 + 90.0 * value(1), 30.0 + 130.0 * value(2));
            [
                width * value(3) - w / 2.0,
                edge + 25.0 * value(4) - h,
                w,
                h,
                40.0 + 170.0 * value(5),
                40.0 + 170.0 * value(6),
                40.0 + 170.0 * value(7),
            ]
        })
        .collect();
    let pixel = |x: f32, y: f32| {
        let texture = 14.0 * (smooth(seed + 1, x, y, 47.0) - 0.5) + 8.0 * (smooth(seed + 2, x, y, 7.0) - 0.5);
        let grain = 30.0 * (smooth(seed + 3, x / 9.0, y * (1.0 + y / height), 4.0) - 0.5);
        let mut colour =
            if y < edge { wall.map(|c| c + texture) } else { table.map(|c| c + grain + texture) };
        for [left, top, w, h, red, green, blue] in &boxes {
            let (u, v) = ((x - left) / w, (y - top) / h);
            if (0.0..1.0).contains(&u) && (0.0..1.0).contains(&v) {
                let shade = 1.15 - 0.4 * u + if v < 0.06 { 0.15 } else { 0.0 };
                colour = [red * shade + texture, green * shade + texture, blue * shade + texture];
            }
        }
        let light = 1.1 - 0.5 * (x / width - 0.2 - 0.6 * pick(8)).abs() - 0.15 * y / height;
        colour.map(|c| c * light)
    };
    (0..FRAME.0 * FRAME.1).map(|index| pixel((index % FRAME.0) as f32, (index / FRAME.0) as f32)).collect()
}

/// Where a card is, and how it is turned.
struct Pose {
    /// From the card's (u, v, 1) to the frame's homogeneous pixel coordinates.
    to_frame: [[f64; 3]; 3],
    /// How bright its paper is.
    light: f32,
    skin: [f32; 3],
}

/// How a card is turned, in radians: in the frame's plane, about the vertical and about the horizontal.
struct Tilt {
    roll: f64,
    yaw: f64,
    pitch: f64,
}

type Vector = [f64; 3];

fn turned(vector: Vector, axes: (usize, usize), angle: f64) -> Vector {
    let (mut out, (sine, cosine)) = (vector, (libm::sin(angle), libm::cos(angle)));
    out[axes.0] = cosine * vector[axes.0] - sine * vector[axes.1];
    out[axes.1] = sine * vector[axes.0] + cosine * vector[axes.1];
    out
}

impl Pose {
    fn new(seed: u32, card: usize, t: f64) -> Self {
        let pick = |which: u32| f64::from(hash(seed, card as u32, which)) * 2.0 - 1.0;
        let wave = |which: u32, strength: f64| {
            strength * libm::sin(PI * (pick(which) + t * (1.0 + pick(which + 1))))
        };
        let tilt = Tilt { roll: wave(10, 0.28), yaw: wave(12, 0.55), pitch: wave(14, 0.45) };
        let size = 0.5 + 0.18 * pick(16);
        // Comes in from one side, dwells, goes out on the other.
        let away = |u: f64| (1.0 - u / 0.3).max(0.0);
        let side = if card.is_multiple_of(2) { -1.0 } else { 1.0 };
        let drift = 1.4 * (away(t) * away(t) - away(1.0 - t) * away(1.0 - t));
        let centre = [side * drift + 0.1 * pick(17) + 0.06 * side * (0.5 - t), 0.02 + 0.07 * pick(18)];
        Self::placed(seed, tilt, size, centre)
    }

    /// A card of `size` whose middle is to the right of and below the frame's, both in heights of the
    /// frame.
    fn placed(seed: u32, Tilt { roll, yaw, pitch }: Tilt, size: f64, [x, y]: [f64; 2]) -> Self {
        let turn = |v: Vector| turned(turned(turned(v, (0, 1), roll), (0, 2), yaw), (1, 2), pitch);
        let (across, down) = (turn([size, 0.0, 0.0]), turn([0.0, size, 0.0]));
        let centre = [x, y, 0.0];
        let corner: Vector =
            std::array::from_fn(|axis| centre[axis] - f64::midpoint(across[axis], down[axis]));
        let (width, height) = (f64::from(FRAME.0), f64::from(FRAME.1));
        let column = |v: Vector, one: f64| {
            let w = FOCAL * one + v[2];
            [height * FOCAL * v[0] + width / 2.0 * w, height * FOCAL * v[1] + height / 2.0 * w, w]
        };
        let columns = [column(across, 0.0), column(down, 0.0), column(corner, 1.0)];
        let tone = 0.55 + 0.45 * hash(seed, 3, 3);
        Self {
            to_frame: std::array::from_fn(|row| columns.map(|column| column[row])),
            light: (1.0 + 0.12 * libm::sin(roll + 2.0 * yaw)) as f32,
            skin: [225.0 * tone, 170.0 * tone, 140.0 * tone],
        }
    }

    /// A point of the card's plane in the frame.
    fn place(&self, u: f64, v: f64) -> [f64; 2] {
        let [x, y, w] = self.to_frame.map(|row| row[0] * u + row[1] * v + row[2]);
        [x / w, y / w]
    }

    fn draw_card(&self, scene: &mut [[f32; 3]], texture: &[f32]) {
        let inverse = inverse(&self.to_frame);
        let corners =
            [self.place(0.0, 0.0), self.place(1.0, 0.0), self.place(1.0, 1.0), self.place(0.0, 1.0)];
        let bounds = |axis: usize, limit: u32| {
            let least = corners.iter().map(|c| c[axis]).fold(f64::MAX, f64::min);
            let most = corners.iter().map(|c| c[axis]).fold(f64::MIN, f64::max);
            (least.clamp(0.0, f64::from(limit)) as u32, most.ceil().clamp(0.0, f64::from(limit)) as u32)
        };
        let ((left, right), (top, bottom)) = (bounds(0, FRAME.0), bounds(1, FRAME.1));
        for y in top..bottom {
            for x in left..right {
                let (mut covered, mut black) = (0.0, 0.0);
                for sample in 0..4 {
                    let px = f64::from(x) + 0.25 + 0.5 * f64::from(sample % 2);
                    let py = f64::from(y) + 0.25 + 0.5 * f64::from(sample / 2);
                    let [u, v, w] = inverse.map(|row| row[0] * px + row[1] * py + row[2]);
                    let (u, v) = (u / w, v / w);
                    if (0.0..1.0).contains(&u) && (0.0..1.0).contains(&v) {
                        covered += 0.25;
                        black += 0.25 * bilinear(texture, u, v);
                    }
                }
                let paper = self.light * (232.0 - 22.0 * y as f32 / FRAME.1 as f32);
                let pixel = &mut scene[(y * FRAME.0 + x) as usize];
                for (channel, tint) in pixel.iter_mut().zip([1.0, 0.985, 0.95]) {
                    *channel = *channel * (1.0 - covered) + (covered - black) * paper * tint + black * 34.0;
                }
            }
        }
    }

    fn draw_arm(&self, scene: &mut [[f32; 3]]) {
        let [x, y] = self.place(0.5, 1.02);
        let reach = f64::from(FRAME.1) * 1.3;
        capsule(scene, [x, y + 26.0], [x + 60.0, reach], 46.0, self.skin);
        for finger in [-46.0, -16.0, 14.0, 44.0] {
            capsule(scene, [x + finger, y - 10.0], [x + finger * 0.8, y + 50.0], 15.0, self.skin);
        }
    }

    fn draw_thumb(&self, scene: &mut [[f32; 3]]) {
        let ([x, y], [below_x, below_y]) = (self.place(0.52, 0.955), self.place(0.55, 1.2));
        capsule(scene, [x, y], [below_x, below_y], 15.0, self.skin);
    }
}

/// A thick line with round ends, darker towards its sides.
fn capsule(scene: &mut [[f32; 3]], a: [f64; 2], b: [f64; 2], radius: f64, colour: [f32; 3]) {
    let range = |axis: usize, limit: u32| {
        let (low, high) = (a[axis].min(b[axis]) - radius, a[axis].max(b[axis]) + radius);
        low.clamp(0.0, f64::from(limit)) as u32..high.ceil().clamp(0.0, f64::from(limit)) as u32
    };
    let along = [b[0] - a[0], b[1] - a[1]];
    let length = (along[0] * along[0] + along[1] * along[1]).max(1e-9);
    for y in range(1, FRAME.1) {
        for x in range(0, FRAME.0) {
            let from = [f64::from(x) + 0.5 - a[0], f64::from(y) + 0.5 - a[1]];
            let t = ((from[0] * along[0] + from[1] * along[1]) / length).clamp(0.0, 1.0);
            let distance = libm::hypot(from[0] - t * along[0], from[1] - t * along[1]);
            let alpha = (radius - distance + 0.5).clamp(0.0, 1.0) as f32;
            if alpha > 0.0 {
                let shade = (1.0 - 0.35 * (distance / radius) * (distance / radius)) as f32;
                let pixel = &mut scene[(y * FRAME.0 + x) as usize];
                for (channel, tone) in pixel.iter_mut().zip(colour) {
                    *channel = *channel * (1.0 - alpha) + alpha * tone * shade;
                }
            }
        }
    }
}

fn bilinear(texture: &[f32], u: f64, v: f64) -> f32 {
    let last = (TEXTURE - 1) as f64;
    let (x, y) = ((u * TEXTURE as f64 - 0.5).clamp(0.0, last), (v * TEXTURE as f64 - 0.5).clamp(0.0, last));
    let (column, row) = (x as usize, y as usize);
    let (right, below) = ((column + 1).min(TEXTURE - 1), (row + 1).min(TEXTURE - 1));
    let (fx, fy) = (x.fract() as f32, y.fract() as f32);
    let at = |row: usize, column: usize| texture[row * TEXTURE + column];
    let top = at(row, column) * (1.0 - fx) + at(row, right) * fx;
    let bottom = at(below, column) * (1.0 - fx) + at(below, right) * fx;
    top * (1.0 - fy) + bottom * fy
}

/// Up to a factor, which homogeneous coordinates do not need.
fn inverse(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let cofactor = |row: usize, column: usize| {
        let (r, c) = ([(row + 1) % 3, (row + 2) % 3], [(column + 1) % 3, (column + 2) % 3]);
        m[r[0]][c[0]] * m[r[1]][c[1]] - m[r[0]][c[1]] * m[r[1]][c[0]]
    };
    std::array::from_fn(|row| std::array::from_fn(|column| cofactor(column, row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twelve_cards_with_black_frames_and_white_corners() {
        let cards = cards();
        assert_eq!(cards.len(), 12);
        for card in &cards {
            assert!(card.is_black(0.08, 0.5), "{}", card.name);
            assert!(!card.is_black(0.02, 0.02), "{}", card.name);
            assert!(!card.is_black(0.15, 0.15), "{}", card.name);
        }
        let black = |name: &str, x, y| cards.iter().find(|card| card.name == name).unwrap().is_black(x, y);
        assert!(black("square", 0.5, 0.5) && !black("circle", 0.5, 0.5) && !black("stop", 0.5, 0.5));
        assert!(black("left", 0.25, 0.5) && !black("left", 0.25, 0.35) && black("right", 0.75, 0.5));
    }

    #[test]
    fn a_clip_shows_each_card_between_pauses() {
        let clip = Clip::new(1);
        let shown: Vec<Shown> = (0..clip.len()).map(|index| clip.shown(index)).collect();
        for card in 0..12 {
            assert!(shown.iter().filter(|shown| **shown == Shown::Card(card)).count() >= 10);
        }
        assert_eq!(shown.iter().filter(|shown| **shown == Shown::Nothing).count(), 12 * PAUSE);
        // A card changes the frame, its absence does not.
        let dark = |image: &RgbImage| image.pixels().filter(|pixel| pixel.0.iter().all(|c| *c < 50)).count();
        let middle = PAUSE + SHOW / 2;
        assert_eq!(clip.shown(middle), Shown::Card(0));
        assert!(dark(&clip.frame(middle)) > 3000 + dark(&clip.frame(0)));
        assert_eq!(clip.frame(middle), Clip::new(1).frame(middle));
        assert_ne!(clip.frame(middle), Clip::new(2).frame(middle));
    }

    #[test]
    fn an_inverse_takes_pixels_back_to_the_card() {
        let pose = Pose::new(5, 3, 0.5);
        let [x, y] = pose.place(0.3, 0.8);
        let [u, v, w] = inverse(&pose.to_frame).map(|row| row[0] * x + row[1] * y + row[2]);
        assert!((u / w - 0.3).abs() < 1e-9 && (v / w - 0.8).abs() < 1e-9);
    }
}
