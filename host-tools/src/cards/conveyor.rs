//! Several cards at once: three conveyors that carry them past a camera.

use std::f64::consts::PI;

use resight_imaging::RgbImage;

use super::{Card, FRAME, Pose, Tilt, background, cards, hash, noisy};

/// Frames that a card is under way for.
const WAY: usize = 96;
/// Cards on each conveyor, one after another.
const EACH: usize = 3;
/// Middles of the conveyors, to the right of the frame's middle, in heights of the frame.
const CONVEYORS: [f64; 3] = [-0.44, 0.0, 0.44];
/// Where a card begins and ends, above and below the frame's middle, in heights of the frame.
const BEYOND: f64 = 0.75;
/// Where the middle conveyor stops, below the frame's middle, in heights of the frame.
const STOP: f64 = 0.2;

/// Nine of the twelve cards on their ways: down on the left, up on the right, and down in the middle with a
/// stop in the lower half. It begins again where it ends.
#[derive(Debug)]
pub struct Conveyor {
    textures: Vec<Vec<f32>>,
    background: Vec<[f32; 3]>,
    seed: u32,
}

/// A card in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Its number.
    pub card: usize,
    /// The edges of what shows of it: left, top, right and bottom as shares of the frame.
    pub edges: [f64; 4],
    /// The share of its box that is within the frame.
    pub visible: f64,
}

impl Conveyor {
    /// Conveyors before a background; that, the order of the cards and how they lie depend on `seed`.
    pub fn new(seed: u32) -> Self {
        Self { textures: cards().iter().map(Card::texture).collect(), background: background(seed), seed }
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        EACH * WAY
    }

    /// Whether there is no frame, which is never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cards of frame `index`, from the left.
    pub fn seen(&self, index: usize) -> Vec<Seen> {
        self.poses(index)
            .filter_map(|(card, pose)| {
                let size = [f64::from(FRAME.0), f64::from(FRAME.1)];
                let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].map(|[u, v]| pose.place(u, v));
                let bounds = |axis: usize| {
                    let places = corners.map(|corner| corner[axis] / size[axis]);
                    (places.into_iter().fold(f64::MAX, f64::min), places.into_iter().fold(f64::MIN, f64::max))
                };
                let ((left, right), (top, bottom)) = (bounds(0), bounds(1));
                let edges = [left, top, right, bottom].map(|edge| edge.clamp(0.0, 1.0));
                let area = |[left, top, right, bottom]: [f64; 4]| (right - left) * (bottom - top);
                let visible = area(edges) / area([left, top, right, bottom]);
                (visible > 0.0).then_some(Seen { card, edges, visible })
            })
            .collect()
    }

    /// Frame `index`, of the size [`FRAME`].
    pub fn frame(&self, index: usize) -> RgbImage {
        let mut scene = self.background.clone();
        for (card, pose) in self.poses(index) {
            pose.draw_card(&mut scene, &self.textures[card]);
        }
        noisy(&scene, self.seed, index)
    }

    fn poses(&self, index: usize) -> impl Iterator<Item = (usize, Pose)> {
        CONVEYORS.into_iter().enumerate().map(move |(conveyor, x)| {
            // Not side by side.
            let frame = index + conveyor * WAY / 8;
            let place = (frame / WAY) % EACH;
            // Every number from 0 to 11 comes from one place: 5 and 12 have no common divisor.
            let card = (self.seed as usize + 5 * (conveyor * EACH + place)) % self.textures.len();
            let t = (frame % WAY) as f64 / WAY as f64;
            let y = match conveyor {
                0 => BEYOND * (2.0 * t - 1.0),
                1 => stopping(t),
                _ => BEYOND * (1.0 - 2.0 * t),
            };
            (card, self.pose(card, t, [x, y]))
        })
    }

    fn pose(&self, card: usize, t: f64, [x, y]: [f64; 2]) -> Pose {
        let pick = |which: u32| f64::from(hash(self.seed, card as u32, which)) * 2.0 - 1.0;
        let tilt = Tilt {
            roll: 0.22 * pick(20) + 0.05 * libm::sin(2.0 * PI * t),
            yaw: 0.35 * pick(21),
            pitch: 0.3 * pick(22),
        };
        Pose::placed(self.seed, tilt, 0.36 + 0.04 * pick(23), [x + 0.02 * pick(24), y])
    }
}

/// Down to the stop in a third of the time, there for another third, and on.
fn stopping(t: f64) -> f64 {
    let ease = |t: f64| t * t * (3.0 - 2.0 * t);
    let first = ease((3.0 * t).min(1.0));
    let last = ease((3.0 * t - 2.0).max(0.0));
    -BEYOND + (STOP + BEYOND) * first + (BEYOND - STOP) * last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_go_their_ways_without_touching_each_other() {
        let conveyor = Conveyor::new(1);
        let mut met = std::collections::BTreeSet::new();
        let mut whole = 0;
        for index in 0..conveyor.len() {
            let seen = conveyor.seen(index);
            met.extend(seen.iter().map(|seen| seen.card));
            whole += usize::from(seen.iter().filter(|seen| seen.visible == 1.0).count() == 3);
            for pair in seen.windows(2) {
                assert!(pair[0].edges[2] <= pair[1].edges[0], "{index}: {pair:?}");
            }
        }
        assert_eq!(met.len(), 9);
        assert!(whole > conveyor.len() / 50, "{whole}");
        assert_eq!(conveyor.seen(3), conveyor.seen(3 + conveyor.len()));
    }

    #[test]
    fn the_first_goes_down_the_second_stops_and_the_third_goes_up() {
        let conveyor = Conveyor::new(2);
        let row = |card: usize, index: usize| {
            let seen = conveyor.seen(index).into_iter().find(|seen| seen.card == card);
            seen.map(|seen| f64::midpoint(seen.edges[1], seen.edges[3]))
        };
        let [first, second, third] = conveyor.seen(48)[..] else { panic!("{:?}", conveyor.seen(48)) };
        assert!(row(first.card, 30) < row(first.card, 60));
        assert!(row(third.card, 30) > row(third.card, 45));
        // Where it stops, only the way that it lies changes.
        let stop = row(second.card, 25).unwrap();
        assert!((22..50).all(|frame| (row(second.card, frame).unwrap() - stop).abs() < 0.02));
        assert!(stop > 0.6);
    }

    #[test]
    fn what_is_said_to_be_there_is_drawn() {
        let conveyor = Conveyor::new(1);
        let (image, seen) = (conveyor.frame(40), conveyor.seen(40));
        let [width, height] = [FRAME.0, FRAME.1].map(f64::from);
        for seen in seen.iter().filter(|seen| seen.visible == 1.0) {
            let [left, top, right, bottom] = seen.edges;
            let (x, y) = (f64::midpoint(left, right) * width, f64::midpoint(top, bottom) * height);
            let sides = ((right - left) * width) as u32 / 2;
            let dark = (0..sides).filter(|step| {
                let pixel = image.get_pixel((x as u32) - sides / 2 + step, y as u32);
                pixel.0.iter().all(|channel| *channel < 90)
            });
            assert!(dark.count() > 2, "{seen:?}");
        }
        assert_eq!(image, Conveyor::new(1).frame(40));
    }
}
