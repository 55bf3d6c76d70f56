//! A part of each frame that the network looks at.

use std::time::{Duration, Instant};

use resight_imaging::{
    ImageView, ImagingError, Orientation, Placement, Preprocessor, Region, clipped, within,
};
use resight_runtime::{Bounds, Detection, Inspection, Model, Parallel, Point, Sequential};

use crate::change::Change;
use crate::judge::{SeenBox, SeenMask, SeenPoint};
use crate::status::AnomalySeen;

/// What tells whether the part shows something new.
struct Watch {
    change: Change,
    /// It is classified at least so often.
    refresh: Duration,
    last: Option<Instant>,
}

/// See the module. Each has preprocessing of its own, because that keeps what belongs to a size.
pub(super) struct Sight {
    region: Region,
    orientation: Orientation,
    preprocessor: Preprocessor,
    input: Vec<i8>,
    /// Where the part that was looked at last is in the network's image.
    placement: Option<Placement>,
    watch: Option<Watch>,
    /// What it showed that is not typical, if that is looked for.
    pub(super) anomaly: Option<AnomalySeen>,
    /// How long preprocessing and network took the last time.
    pub(super) took: Duration,
}

impl Sight {
    /// Looks at `region` of frames that are turned; with `on_change`, only where something is new, and at
    /// least so often.
    pub(super) fn new(
        model: &Model,
        region: Region,
        orientation: Orientation,
        on_change: Option<Duration>,
    ) -> Result<Self, ImagingError> {
        let mut preprocessor = Preprocessor::new(model.preprocessing())?;
        preprocessor.set_orientation(orientation);
        let [rows, columns] = model.preprocessing().crop.map(|side| side as usize);
        let values = preprocessor.input_len();
        let channels = values / (rows * columns).max(1);
        let watch = |refresh| Watch { change: Change::new(rows, columns, channels), refresh, last: None };
        Ok(Self {
            region,
            orientation,
            preprocessor,
            input: vec![0; values],
            placement: None,
            watch: on_change.map(watch),
            anomaly: None,
            took: Duration::ZERO,
        })
    }

    /// Looks at a frame. The input for the network, if it is to be classified; `must` demands that.
    pub(super) fn look(
        &mut self,
        parallel: &dyn Parallel,
        image: &ImageView<'_>,
        must: bool,
    ) -> Result<Option<&[i8]>, ImagingError> {
        // Most frames go no further where a change is waited for: no reason to wake all threads.
        let parallel: &dyn Parallel = if self.watch.is_some() { &Sequential } else { parallel };
        let part = image.region(self.region);
        self.preprocessor.quantise_on(parallel, &part, &mut self.input)?;
        let preprocessing = self.preprocessor.preprocessing();
        self.placement = Some(preprocessing.placement(part.size(), self.orientation));
        if let Some(watch) = &mut self.watch {
            let is_new = watch.change.look(&self.input);
            let is_due = watch.last.is_none_or(|last| last.elapsed() >= watch.refresh);
            if !(is_new || is_due || must) {
                return Ok(None);
            }
        }
        Ok(Some(&self.input))
    }

    /// It was inspected: how far each place of the input is from what is typical, and how likely it shows an
    /// anomaly. Keeps that in shares of the frame, before it is turned.
    pub(super) fn inspected(
        &mut self,
        image: &ImageView<'_>,
        inspection: Inspection,
        map: &[f32],
        probability: f32,
    ) {
        let placement =
            self.preprocessor.preprocessing().placement(image.region(self.region).size(), self.orientation);
        let Region { left, top, width, height } = self.region;
        let region = [left, top, width, height];
        let covers = placement.rectangle([0.0, 0.0, 1.0, 1.0]);
        let seen = self.anomaly.get_or_insert_default();
        let [rows, columns] = inspection.map();
        seen.size = if self.orientation.is_sideways() { [columns, rows] } else { [rows, columns] };
        seen.map.resize(map.len(), 0.0);
        let cell = [1.0 / columns as f32, 1.0 / rows as f32];
        for (index, &far) in map.iter().enumerate() {
            let [x, y] = [index % columns, index / columns];
            let place = placement.rectangle([x as f32 * cell[0], y as f32 * cell[1], cell[0], cell[1]]);
            // Cells from the edge of what is covered.
            let cells = |start: f32, first: f32, length: f32| ((start - first) / length).round() as usize;
            let (row, column) = (cells(place[1], covers[1], place[3]), cells(place[0], covers[0], place[2]));
            if let Some(kept) = seen.map.get_mut(row * seen.size[1] + column) {
                *kept = far;
            }
        }
        let area = inspection.area(map);
        seen.covers = within(covers, region);
        let area = placement.rectangle([area.left, area.top, area.width, area.height]);
        seen.area = clipped(within(area, region));
        seen.probability = probability;
    }

    /// A box in what was looked at last, as one of the whole frame.
    pub(super) fn seen(&self, found: &Detection) -> SeenBox {
        let Bounds { left, top, right, bottom } = found.bounds;
        let Some(placement) = &self.placement else {
            return SeenBox { class: found.class, score: found.score, edges: [0.0; 4], track: None };
        };
        let [height, width] = placement.size();
        let [[y0, x0], [y1, x1]] = [[top, left], [bottom, right]].map(|place| placement.in_image(place));
        // A turned picture has other corners first.
        let share =
            |at: f32, length: f32, first: f32, part: f32| first + (at / length).clamp(0.0, 1.0) * part;
        let Region { left, top, width: part, height: rows } = self.region;
        let edges = [
            share(x0.min(x1), width, left, part),
            share(y0.min(y1), height, top, rows),
            share(x0.max(x1), width, left, part),
            share(y0.max(y1), height, top, rows),
        ];
        SeenBox { class: found.class, score: found.score, edges, track: None }
    }

    /// A point in what was looked at last, as one of the whole frame, whose classes and things begin with
    /// `first`.
    pub(super) fn seen_point(&self, [class, thing]: [usize; 2], found: &Point) -> SeenPoint {
        let mut place = [0.0; 2];
        if let Some(placement) = &self.placement {
            let [height, width] = placement.size();
            let [y, x] = placement.in_image(found.place);
            let Region { left, top, width: part, height: rows } = self.region;
            place = [left + (x / width).clamp(0.0, 1.0) * part, top + (y / height).clamp(0.0, 1.0) * rows];
        }
        let score = found.score.clamp(0.0, 1.0);
        SeenPoint { class: class + found.class, thing: thing + found.thing, score, place }
    }

    /// Copies what each place of what was looked at last belongs to, as the frame lies. Allocates nothing
    /// once `seen` has held as much.
    pub(super) fn masked(&self, classes: &[u8], [rows, columns]: [usize; 2], seen: &mut SeenMask) {
        let Some(placement) = &self.placement else { return };
        let Region { left, top, width, height } = self.region;
        seen.covers = within(placement.rectangle([0.0, 0.0, 1.0, 1.0]), [left, top, width, height]);
        seen.size = if self.orientation.is_sideways() { [columns, rows] } else { [rows, columns] };
        if self.orientation == Orientation::default() {
            seen.classes.clear();
            seen.classes.extend_from_slice(classes);
            return;
        }
        seen.classes.resize(classes.len(), 0);
        // Where the frame has the first place of the network's image, the next one in its row and the next
        // row: whole steps, as it is turned by quarters.
        let covers = placement.rectangle([0.0, 0.0, 1.0, 1.0]);
        let cell = [1.0 / columns as f32, 1.0 / rows as f32];
        let at = |row: usize, column: usize| {
            let place =
                placement.rectangle([column as f32 * cell[0], row as f32 * cell[1], cell[0], cell[1]]);
            let cells = |start: f32, first: f32, length: f32| ((start - first) / length).round() as isize;
            let (row, column) = (cells(place[1], covers[1], place[3]), cells(place[0], covers[0], place[2]));
            row * seen.size[1] as isize + column
        };
        let first = at(0, 0);
        let [across, down] = [at(0, 1.min(columns - 1)) - first, at(1.min(rows - 1), 0) - first];
        for (row, line) in classes.chunks_exact(columns).enumerate() {
            for (column, class) in line.iter().enumerate() {
                let index = first + row as isize * down + column as isize * across;
                if let Some(kept) = usize::try_from(index).ok().and_then(|index| seen.classes.get_mut(index))
                {
                    *kept = *class;
                }
            }
        }
    }

    /// It was classified, and that took so long.
    pub(super) fn classified(&mut self, took: Duration) {
        self.took = took;
        if let Some(watch) = &mut self.watch {
            watch.change.classified();
            watch.last = Some(Instant::now());
        }
    }
}
