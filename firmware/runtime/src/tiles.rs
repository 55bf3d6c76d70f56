//! A large picture in tiles that overlap, for small things in it.

use resight_imaging::{ImageView, Region};

use crate::heads::{Bounds, Detection};

/// Most tiles along each axis.
const MAX_TILES: usize = 8;

/// Largest share of a tile that it has in common with the next.
const MAX_OVERLAP: f32 = 0.5;

/// Of two boxes of a class in different tiles, where both tiles see them, that overlap more, both show
/// the same thing.
const SAME: f32 = 0.5;

/// How a picture is divided into tiles, each of which is looked at by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tiling {
    rows: usize,
    columns: usize,
    overlap: f32,
}

impl Tiling {
    /// The share of a tile that it has in common with the next, where nothing is said.
    pub const OVERLAP: f32 = 0.2;

    /// Rows and columns of tiles, each `1..=8`, two tiles at least; `overlap` is the share of a tile that
    /// it has in common with the next, `0..=0.5`. `None` beyond that.
    pub fn new([rows, columns]: [usize; 2], overlap: f32) -> Option<Self> {
        let fits = |count: usize| (1..=MAX_TILES).contains(&count);
        let is_some = fits(rows) && fits(columns) && rows * columns > 1;
        (is_some && (0.0..=MAX_OVERLAP).contains(&overlap)).then_some(Self { rows, columns, overlap })
    }

    /// Rows and columns.
    pub fn size(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// How many tiles there are.
    pub fn count(&self) -> usize {
        self.rows * self.columns
    }

    /// The tiles of a part of a picture, row by row, as parts of the same picture.
    pub fn parts(&self, whole: Region) -> impl Iterator<Item = Region> + use<> {
        let Self { rows, columns, overlap } = *self;
        let side = |count: usize| 1.0 / (count as f32 - (count - 1) as f32 * overlap);
        let (height, width) = (side(rows), side(columns));
        // The last one ends where the whole does, whatever is rounded.
        let start = move |index: usize, count: usize, length: f32| match index + 1 {
            last if last == count => 1.0 - length,
            _ => index as f32 * length * (1.0 - overlap),
        };
        (0..rows * columns).map(move |tile| Region {
            left: whole.left + start(tile % columns, columns, width).max(0.0) * whole.width,
            top: whole.top + start(tile / columns, rows, height).max(0.0) * whole.height,
            width: width * whole.width,
            height: height * whole.height,
        })
    }

    /// The boxes of an image, in its pixels, the likeliest first: `find` gives those of a tile in the
    /// tile's pixels.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn locate<E>(
        &self,
        image: &ImageView<'_>,
        mut find: impl FnMut(&ImageView<'_>) -> Result<Vec<Detection>, E>,
    ) -> Result<Vec<Detection>, E> {
        let views: Vec<ImageView<'_>> = self.parts(Region::WHOLE).map(|part| image.region(part)).collect();
        let mut tiled = TiledBoxes::new(views.iter().map(|view| {
            let ([top, left], [height, width]) = (view.origin().map(|at| at as f32), view.size());
            Bounds { left, top, right: left + width as f32, bottom: top + height as f32 }
        }));
        for (tile, view) in views.iter().enumerate() {
            let [top, left] = view.origin().map(|at| at as f32);
            let moved = |found: Detection| {
                let bounds = found.bounds;
                let bounds = Bounds {
                    left: bounds.left + left,
                    top: bounds.top + top,
                    right: bounds.right + left,
                    bottom: bounds.bottom + top,
                };
                Detection { bounds, ..found }
            };
            tiled.replace(tile, find(view)?.into_iter().map(moved));
        }
        Ok(tiled.merge().to_vec())
    }
}

/// The boxes of all tiles of a picture. Tiles and boxes may be in pixels or in shares of the picture.
/// Nothing is allocated for them once there were as many.
#[derive(Debug)]
pub struct TiledBoxes {
    tiles: Vec<Bounds>,
    /// Those that see a part of what each tile sees.
    neighbours: Vec<Vec<usize>>,
    /// With the tile that each was found in.
    boxes: Vec<(usize, Detection)>,
    /// Which thing each shows.
    things: Vec<usize>,
    /// The boxes of each tile that have been looked at, by their places in the list.
    of_tiles: Vec<Vec<usize>>,
    merged: Vec<Detection>,
    /// Whether boxes came since they were merged.
    is_changed: bool,
}

impl TiledBoxes {
    /// None yet, of these tiles.
    pub fn new(tiles: impl Iterator<Item = Bounds>) -> Self {
        let tiles: Vec<Bounds> = tiles.collect();
        let see = |tile: usize, other: usize| {
            let both = tiles[tile].common(&tiles[other]);
            tile != other && both.left < both.right && both.top < both.bottom
        };
        let all = 0..tiles.len();
        let neighbours =
            all.clone().map(|tile| all.clone().filter(|&other| see(tile, other)).collect()).collect();
        Self {
            neighbours,
            boxes: vec![],
            things: vec![],
            of_tiles: vec![vec![]; tiles.len()],
            merged: vec![],
            tiles,
            is_changed: false,
        }
    }

    /// Memory for so many boxes.
    pub fn reserve(&mut self, boxes: usize) {
        let more = |len: usize| boxes.saturating_sub(len);
        self.boxes.reserve(more(self.boxes.len()));
        self.things.reserve(more(self.things.len()));
        self.merged.reserve(more(self.merged.len()));
        let each = boxes.div_ceil(self.tiles.len().max(1));
        self.of_tiles.iter_mut().for_each(|of_tile| of_tile.reserve(each.saturating_sub(of_tile.len())));
    }

    /// The boxes of a tile are these now; those of the others stay.
    pub fn replace(&mut self, tile: usize, found: impl Iterator<Item = Detection>) {
        self.boxes.retain(|(other, _)| *other != tile);
        self.boxes.extend(found.map(|found| (tile, found)));
        self.is_changed = true;
    }

    /// As [`merge`](Self::merge) if a tile was looked at since the last time.
    pub fn merge_changed(&mut self) -> Option<&[Detection]> {
        self.is_changed.then(|| self.merge())
    }

    /// What all tiles show, the likeliest first. A thing that several tiles see has one box, round all that
    /// they see of it, with the highest of their scores: boxes of one class from two tiles are of one thing
    /// where they are nearly the same in what both tiles see.
    pub fn merge(&mut self) -> &[Detection] {
        let Self { tiles, neighbours, boxes, things, of_tiles, merged, is_changed } = self;
        *is_changed = false;
        let place = |(tile, found): &(usize, Detection)| (found.class, *tile);
        boxes.sort_unstable_by(|a, b| {
            let edges = |found: &Detection| [found.bounds.top, found.bounds.left];
            let [[top, left], [other_top, other_left]] = [edges(&a.1), edges(&b.1)];
            (b.1.score.total_cmp(&a.1.score).then_with(|| place(a).cmp(&place(b))))
                .then(top.total_cmp(&other_top))
                .then(left.total_cmp(&other_left))
        });
        things.clear();
        merged.clear();
        of_tiles.iter_mut().for_each(Vec::clear);
        for (index, seen) in boxes.iter().enumerate() {
            // The likeliest of all neighbours: the first of each is that of this tile.
            let near = neighbours.get(seen.0).into_iter().flatten();
            let first = |&tile: &usize| {
                of_tiles[tile].iter().copied().find(|&better| is_same(tiles, &boxes[better], seen))
            };
            let same = near.filter_map(first).min();
            if let Some(of_tile) = of_tiles.get_mut(seen.0) {
                of_tile.push(index);
            }
            let thing = same.map_or(merged.len(), |better| things[better]);
            things.push(thing);
            match merged.get_mut(thing) {
                Some(known) => known.bounds = known.bounds.hull(&seen.1.bounds),
                None => merged.push(seen.1),
            }
        }
        merged
    }
}

/// Whether two boxes show one thing, as far as both tiles see it.
fn is_same(tiles: &[Bounds], one: &(usize, Detection), other: &(usize, Detection)) -> bool {
    if one.1.class != other.1.class || one.0 == other.0 {
        return false;
    }
    // Nearly all of them are apart.
    let (a, b) = (one.1.bounds, other.1.bounds);
    if a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top {
        return false;
    }
    let (Some(tile), Some(next)) = (tiles.get(one.0), tiles.get(other.0)) else { return false };
    let both = tile.common(next);
    one.1.bounds.common(&both).overlap(&other.1.bounds.common(&both)) > SAME
}

#[cfg(test)]
mod tests {
    use resight_fixtures::Random;
    use resight_imaging::RgbImage;

    use super::*;

    fn found(class: usize, score: f32, [left, top, right, bottom]: [f32; 4]) -> Detection {
        Detection { class, score, bounds: Bounds { left, top, right, bottom } }
    }

    /// Two tiles side by side, 60 of 100 columns each.
    fn tiles() -> TiledBoxes {
        let tile = |left: f32| Bounds { left, top: 0.0, right: left + 60.0, bottom: 50.0 };
        TiledBoxes::new([tile(0.0), tile(40.0)].into_iter())
    }

    #[test]
    fn tiles_cover_all_and_have_their_share_in_common() {
        for (rows, columns, overlap) in [(2, 2, 0.2), (1, 3, 0.0), (3, 5, 0.5), (8, 8, 0.33)] {
            let tiling = Tiling::new([rows, columns], overlap).unwrap();
            let whole = Region { left: 0.25, top: 0.5, width: 0.5, height: 0.25 };
            let parts: Vec<Region> = tiling.parts(whole).collect();
            assert_eq!(parts.len(), tiling.count());
            let near = |a: f32, b: f32| (a - b).abs() < 1e-5;
            assert!(near(parts[0].left, 0.25) && near(parts[0].top, 0.5), "{parts:?}");
            let last = parts[parts.len() - 1];
            assert!(near(last.left + last.width, 0.75) && near(last.top + last.height, 0.75), "{parts:?}");
            let common = parts[0].left + parts[0].width - parts[1].left;
            assert!(near(common, overlap * parts[0].width), "{parts:?}");
            for part in parts {
                let Region { left, top, width, height } = part;
                assert_eq!(Region::new(left, top, width, height), Some(part));
            }
        }
        for (size, overlap) in
            [([1, 1], 0.2), ([0, 2], 0.2), ([9, 2], 0.2), ([2, 2], 0.6), ([2, 2], f32::NAN)]
        {
            assert_eq!(Tiling::new(size, overlap), None, "{size:?} {overlap}");
        }
    }

    /// All boxes against all others.
    fn searched(tiles: &TiledBoxes) -> Vec<Detection> {
        let mut merged: Vec<Detection> = vec![];
        let mut things: Vec<usize> = vec![];
        for (index, seen) in tiles.boxes.iter().enumerate() {
            let same = tiles.boxes[..index].iter().position(|better| is_same(&tiles.tiles, better, seen));
            let thing = same.map_or(merged.len(), |better| things[better]);
            things.push(thing);
            match merged.get_mut(thing) {
                Some(known) => known.bounds = known.bounds.hull(&seen.1.bounds),
                None => merged.push(seen.1),
            }
        }
        merged
    }

    #[test]
    fn boxes_of_many_tiles_are_those_of_a_search_among_all() {
        for (seed, overlap) in [0.2, 0.5, 0.0, 0.35].into_iter().enumerate() {
            let tiling = Tiling::new([4, 5], overlap).unwrap();
            let bounds = |part: Region| Bounds {
                left: part.left,
                top: part.top,
                right: part.left + part.width,
                bottom: part.top + part.height,
            };
            let parts: Vec<Bounds> = tiling.parts(Region::WHOLE).map(bounds).collect();
            let mut tiles = TiledBoxes::new(parts.iter().copied());
            tiles.reserve(20 * 40);
            let random = &mut Random::new(seed as u64);
            let mut share = || random.unit() as f32;
            // Things anywhere, which every tile sees as far as they lie in it, a little moved.
            let things: Vec<[f32; 4]> =
                (0..150).map(|_| [share(), share(), 0.02 + 0.1 * share(), 0.02 + 0.1 * share()]).collect();
            for (tile, part) in parts.iter().enumerate() {
                let seen = |(index, &[x, y, width, height]): (usize, &[f32; 4])| {
                    let (right, moved) = ((x + width).min(1.0), 0.01 * share());
                    let whole = Bounds { left: x + moved, top: y, right, bottom: (y + height).min(1.0) };
                    let bounds = whole.common(part);
                    let is_seen = bounds.left < bounds.right && bounds.top < bounds.bottom;
                    is_seen.then(|| Detection { class: index % 3, score: share(), bounds })
                };
                let found: Vec<Detection> = things.iter().enumerate().filter_map(seen).collect();
                tiles.replace(tile, found.into_iter());
            }
            let merged = tiles.merge().to_vec();
            assert!(merged.len() < tiles.boxes.len() || overlap == 0.0, "{}", merged.len());
            assert_eq!(merged, searched(&tiles));
        }
    }

    #[test]
    fn a_thing_that_two_tiles_see_has_one_box() {
        let mut tiles = tiles();
        // Whole in both; cut off by the first; larger than a tile; of two classes; beside each other.
        let left = [
            found(0, 0.8, [42.0, 0.0, 50.0, 10.0]),
            found(0, 0.4, [55.0, 20.0, 60.0, 30.0]),
            found(1, 0.7, [10.0, 35.0, 60.0, 49.0]),
            found(2, 0.6, [45.0, 12.0, 55.0, 18.0]),
        ];
        let right = [
            found(0, 0.9, [42.0, 1.0, 51.0, 10.0]),
            found(0, 0.5, [55.0, 20.0, 70.0, 30.0]),
            found(1, 0.3, [40.0, 35.0, 95.0, 50.0]),
            found(3, 0.2, [45.0, 12.0, 55.0, 18.0]),
        ];
        tiles.replace(0, left.into_iter());
        tiles.replace(1, right.into_iter());
        let expected = [
            found(0, 0.9, [42.0, 0.0, 51.0, 10.0]),
            found(1, 0.7, [10.0, 35.0, 95.0, 50.0]),
            found(2, 0.6, [45.0, 12.0, 55.0, 18.0]),
            found(0, 0.5, [55.0, 20.0, 70.0, 30.0]),
            found(3, 0.2, [45.0, 12.0, 55.0, 18.0]),
        ];
        assert_eq!(tiles.merge(), expected);
        assert_eq!(tiles.merge_changed(), None);
        // The second tile shows nothing any more.
        tiles.replace(1, [].into_iter());
        assert_eq!(tiles.merge_changed(), Some(&[left[0], left[2], left[3], left[1]][..]));
    }

    #[test]
    fn what_one_tile_tells_apart_stays_apart() {
        let mut tiles = tiles();
        let crowd = [found(0, 0.9, [42.0, 0.0, 50.0, 10.0]), found(0, 0.8, [43.0, 0.0, 51.0, 10.0])];
        tiles.replace(0, crowd.into_iter());
        assert_eq!(tiles.merge(), crowd);
        // Where the other tile does not look it says nothing.
        tiles.replace(1, [found(0, 0.7, [70.0, 0.0, 80.0, 10.0])].into_iter());
        assert_eq!(tiles.merge().len(), 3);
    }

    #[test]
    fn boxes_of_tiles_are_boxes_of_the_picture() {
        let image = RgbImage::new(100, 60);
        let view = ImageView::of(&image).unwrap();
        let tiling = Tiling::new([1, 2], 0.25).unwrap();
        let mut seen = vec![];
        let boxes = tiling.locate(&view, |tile| {
            seen.push((tile.origin(), tile.size()));
            Ok::<_, std::convert::Infallible>(vec![found(0, 0.5, [1.0, 2.0, 3.0, 4.0])])
        });
        assert_eq!(seen, [([0, 0], [60, 57]), ([0, 43], [60, 57])]);
        let expected = [found(0, 0.5, [1.0, 2.0, 3.0, 4.0]), found(0, 0.5, [44.0, 2.0, 46.0, 4.0])];
        assert_eq!(boxes.unwrap(), expected);
    }
}
