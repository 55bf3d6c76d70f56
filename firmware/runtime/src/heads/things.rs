//! Which points belong to one thing: part affinity fields.

use resight_model_file::{FieldOrder, Fields, MAX_LINKED_POINTS, OutputMap};

use super::error::HeadError;
use super::maps::{Element, Least, Map, Source, real};
use super::point::{Between, Point};
use crate::error::RuntimeError;
use crate::tensors::TensorFact;

/// Rows and columns around a cell in which it must be the likeliest.
const AROUND: usize = 2;

/// Looks for several things in an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linked {
    /// Two channels for each link.
    map: Map,
    fields: Fields,
    least: Least,
}

/// The memory that things are found in.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Those of one kind after those of another.
    peaks: Vec<Peak>,
    /// Where those of each kind end.
    ends: Vec<usize>,
    joints: Vec<Joint>,
    /// The things: a peak of each, and the sum of its scores.
    things: Vec<(usize, f32)>,
}

/// A point that was found, in a tree of points that belong together.
#[derive(Debug, Clone, Copy)]
struct Peak {
    /// Orders peaks of a kind.
    key: f32,
    score: f32,
    /// `[row, column]` of its cell.
    cell: [usize; 2],
    /// `[downwards, to the right]` in cells.
    place: [f32; 2],
    class: usize,
    /// Another peak of its thing; itself at the root of the tree.
    parent: usize,
    /// At the root: the kinds of points that the thing has.
    classes: u64,
}

/// Two peaks that a link could join.
#[derive(Debug, Clone, Copy)]
struct Joint {
    fit: f32,
    link: usize,
    ends: [usize; 2],
}

impl Linked {
    /// The fields of these outputs for points of `heat_map`, whose least value is `least`.
    pub(super) fn new(
        maps: &[OutputMap],
        fields: &Fields,
        outputs: &[TensorFact],
        heat_map: &Map,
        least: Least,
    ) -> Result<Self, HeadError> {
        let map = Map::find(maps, outputs, &fields.map)?;
        if let Some(activation) = map.activation {
            return Err(HeadError::Activation { name: map.name, activation });
        }
        map.same_size(heat_map)?;
        map.expect(2 * fields.links.len(), "two for each link")?;
        let needed = fields.links.iter().flatten().max().map_or(0, |most| most + 1);
        if heat_map.channels < needed || heat_map.channels > MAX_LINKED_POINTS {
            let expected = format!("{needed} to {MAX_LINKED_POINTS}: one for each point of the links");
            let found = heat_map.channels;
            return Err(HeadError::Channels { name: heat_map.name.clone(), found, expected });
        }
        fields.check_fewest(heat_map.channels)?;
        Ok(Self { map, fields: fields.clone(), least })
    }

    /// The most points of an image, of so many kinds.
    pub(super) fn most(&self, classes: usize) -> usize {
        self.fields.most * classes
    }

    /// Memory for the things of images with so many kinds of points.
    pub(super) fn memory(&self, classes: usize) -> Assembly {
        let Fields { most, links, .. } = &self.fields;
        Assembly {
            // One more while the least likely is not left out yet.
            peaks: Vec::with_capacity(most * classes + 1),
            ends: Vec::with_capacity(classes),
            joints: Vec::with_capacity(links.len() * most * most),
            things: Vec::with_capacity(most * classes),
        }
    }

    /// Finds the things of an image: for each, the surest first, its points in the order of their kinds, in
    /// cells.
    pub(super) fn decode<'a, S: Source<'a>>(
        &self,
        outputs: S,
        heat_map: &Map,
        between: Between,
        assembly: &mut Assembly,
        points: &mut Vec<Point>,
    ) -> Result<(), RuntimeError> {
        let heats = outputs.values(heat_map)?;
        self.find(heats, heat_map, between, assembly);
        self.weigh(outputs.values(&self.map)?, assembly);
        join(assembly);
        self.list(assembly, points);
        Ok(())
    }

    /// The likeliest peaks of each kind.
    fn find<T: Element>(&self, heats: &[T], map: &Map, between: Between, assembly: &mut Assembly) {
        let Assembly { peaks, ends, .. } = assembly;
        peaks.clear();
        ends.clear();
        let Map { size: [height, width], channels, .. } = *map;
        for class in 0..channels {
            let first = peaks.len();
            for (cell, &heat) in heats.iter().skip(class).step_by(channels).enumerate() {
                // Few cells are likely: everything else comes after this.
                if !heat.reaches(self.least, map) {
                    continue;
                }
                let (row, column) = (cell / width, cell % width);
                let is_full = peaks.len() - first == self.fields.most;
                if is_full && peaks.last().is_some_and(|last| last.key >= heat.key()) {
                    continue;
                }
                let rows = row.saturating_sub(AROUND)..(row + AROUND + 1).min(height);
                let columns = column.saturating_sub(AROUND)..(column + AROUND + 1).min(width);
                let mut around = rows.flat_map(|y| columns.clone().map(move |x| y * width + x));
                // Of a plain only the first cell.
                let hides = |other: usize| {
                    let value = heats[other * channels + class];
                    value > heat || (other < cell && value.key() >= heat.key())
                };
                if around.any(hides) {
                    continue;
                }
                let number = first + peaks[first..].partition_point(|other| other.key >= heat.key());
                let peak = Peak {
                    key: heat.key(),
                    score: heat.value(map),
                    cell: [row, column],
                    place: between.place(heats, map, class, [row, column]),
                    class,
                    parent: 0,
                    classes: 1 << class,
                };
                peaks.insert(number, peak);
                peaks.truncate(first + self.fields.most);
            }
            ends.push(peaks.len());
        }
        for (index, peak) in peaks.iter_mut().enumerate() {
            peak.parent = index;
        }
    }

    /// How well links fit, of those that fit well enough the best first.
    fn weigh<T: Element>(&self, field: &[T], assembly: &mut Assembly) {
        let Assembly { peaks, ends, joints, .. } = assembly;
        joints.clear();
        let of = |class: usize| class.checked_sub(1).map_or(0, |before| ends[before])..ends[class];
        for (link, &[from, to]) in self.fields.links.iter().enumerate() {
            for (a, b) in of(from).flat_map(|a| of(to).map(move |b| (a, b))) {
                let fit = self.fit(field, link, peaks[a].cell, peaks[b].cell);
                if fit >= self.fields.threshold {
                    joints.push(Joint { fit, link, ends: [a, b] });
                }
            }
        }
        let place = |joint: &Joint| (joint.link, joint.ends);
        joints.sort_unstable_by(|a, b| b.fit.total_cmp(&a.fit).then_with(|| place(a).cmp(&place(b))));
    }

    /// How far the field between two cells goes from the first to the second, at most about 1.
    fn fit<T: Element>(&self, field: &[T], link: usize, from: [usize; 2], to: [usize; 2]) -> f32 {
        let [down, right] = [0, 1].map(|axis| to[axis] as f32 - from[axis] as f32);
        let length = down.hypot(right);
        if length == 0.0 {
            return 0.0;
        }
        let Map { size: [_, width], channels, .. } = self.map;
        let part = |sample: usize| {
            let share = (sample as f32 + 0.5) / Fields::SAMPLES as f32;
            let [row, column] = [(from[0], down), (from[1], right)]
                .map(|(start, way)| (start as f32 + share * way).round() as usize);
            let first = (row * width + column) * channels + 2 * link;
            let [one, other] = [first, first + 1].map(|index| real(field, index, &self.map));
            match self.fields.order {
                FieldOrder::RightFirst => one * right + other * down,
                FieldOrder::DownFirst => one * down + other * right,
            }
        };
        (0..Fields::SAMPLES).map(part).sum::<f32>() / (length * Fields::SAMPLES as f32)
    }

    /// Lists the points of the things that have enough, the surest things first.
    fn list(&self, assembly: &mut Assembly, points: &mut Vec<Point>) {
        let Assembly { peaks, things, .. } = assembly;
        things.clear();
        for index in 0..peaks.len() {
            let root = root(peaks, index);
            if (peaks[root].classes.count_ones() as usize) < self.fields.fewest {
                continue;
            }
            match things.iter_mut().find(|(thing, _)| *thing == root) {
                Some((_, score)) => *score += peaks[index].score,
                None => things.push((root, peaks[index].score)),
            }
        }
        things.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        things.truncate(self.fields.most);
        for (thing, &(own, _)) in things.iter().enumerate() {
            for index in (0..peaks.len()).filter(|&index| root(peaks, index) == own) {
                let Peak { class, score, place, .. } = peaks[index];
                points.push(Point { class, thing, score, place });
            }
        }
    }
}

/// Joins peaks to things, the best link first.
fn join(assembly: &mut Assembly) {
    let Assembly { peaks, joints, .. } = assembly;
    for &Joint { ends: [a, b], .. } in joints.iter() {
        let (one, other) = (root(peaks, a), root(peaks, b));
        // No thing has a point twice; so no point has a link twice, and what has one has the better one. Those
        // of one thing have all points in common.
        if peaks[one].classes & peaks[other].classes == 0 {
            peaks[one].classes |= peaks[other].classes;
            peaks[other].parent = one;
        }
    }
}

/// The root of a peak's tree.
fn root(peaks: &[Peak], mut index: usize) -> usize {
    while peaks[index].parent != index {
        index = peaks[index].parent;
    }
    index
}
