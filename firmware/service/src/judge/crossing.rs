//! Lines in the picture, and who crosses them in which direction.

/// Which way a line is crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
    Left,
    Right,
}

impl Direction {
    /// All, with their names.
    pub(crate) const ALL: [(&'static str, Self); 4] =
        [("up", Self::Up), ("down", Self::Down), ("left", Self::Left), ("right", Self::Right)];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, other)| *other == self).map_or("", |(name, _)| name)
    }

    /// One step that way, to the right and down.
    fn step(self) -> [f32; 2] {
        match self {
            Self::Up => [0.0, -1.0],
            Self::Down => [0.0, 1.0],
            Self::Left => [-1.0, 0.0],
            Self::Right => [1.0, 0.0],
        }
    }
}

/// A line between two different points, `[x, y]` as shares of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Crossing {
    pub(crate) ends: [[f32; 2]; 2],
    /// `None` is either way.
    pub(crate) direction: Option<Direction>,
}

/// Where a thing was when it was last clearly on one side of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Anchor {
    middle: [f32; 2],
    /// Whether that is the side of positive distances.
    positive: bool,
}

/// A thing is on a side once its middle is so far from the line, as a share of its box's shorter side: what
/// trembles on the line crosses nothing.
const CLEAR: f32 = 0.1;

impl Crossing {
    /// Whether there is such a crossing: nothing goes down over a line that stands upright.
    pub(crate) fn is_possible(&self) -> bool {
        self.direction.is_none_or(|direction| self.along_normal(direction.step()) != 0.0)
    }

    /// The vector from the first end to the second.
    fn vector(&self) -> [f32; 2] {
        let [[x0, y0], [x1, y1]] = self.ends;
        [x1 - x0, y1 - y0]
    }

    fn along_normal(&self, [x, y]: [f32; 2]) -> f32 {
        let [dx, dy] = self.vector();
        dx * y - dy * x
    }

    /// How far a point is from the line on the side of positive distances, which is on the right hand of
    /// who goes from the first end to the second, y being downwards.
    fn distance(&self, [x, y]: [f32; 2]) -> f32 {
        let [[x0, y0], _] = self.ends;
        let [dx, dy] = self.vector();
        self.along_normal([x - x0, y - y0]) / dx.hypot(dy)
    }

    /// Takes where a thing is now, and says whether it has just crossed the line in the direction that
    /// counts. `anchor` is the memory of this thing at this line.
    pub(super) fn passes(&self, anchor: &mut Option<Anchor>, middle: [f32; 2], shorter: f32) -> bool {
        let distance = self.distance(middle);
        if distance.abs() < CLEAR * shorter || distance == 0.0 {
            return false;
        }
        let positive = distance > 0.0;
        let before = anchor.replace(Anchor { middle, positive });
        let Some(before) = before.filter(|before| before.positive != positive) else { return false };
        let wanted =
            self.direction.is_none_or(|direction| (self.along_normal(direction.step()) > 0.0) == positive);
        wanted && self.is_between(before.middle, middle)
    }

    /// Whether the way between two points on either side leads through between the ends.
    fn is_between(&self, from: [f32; 2], to: [f32; 2]) -> bool {
        let (a, b) = (self.distance(from), self.distance(to));
        let share = a / (a - b);
        let at = [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]));
        let [dx, dy] = self.vector();
        let along = (at[0] - self.ends[0][0]) * dx + (at[1] - self.ends[0][1]) * dy;
        (0.0..=dx * dx + dy * dy).contains(&along)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crossings on a way through these points, of a box with sides of 0.1.
    fn crossings(line: Crossing, way: &[[f32; 2]]) -> usize {
        let mut anchor = None;
        way.iter().filter(|middle| line.passes(&mut anchor, **middle, 0.1)).count()
    }

    const DOWN: [[f32; 2]; 3] = [[0.5, 0.2], [0.5, 0.5], [0.5, 0.8]];

    #[test]
    fn a_line_is_crossed_in_its_direction_whichever_end_is_first() {
        let ends = [[0.1, 0.5], [0.9, 0.5]];
        let up: Vec<_> = DOWN.into_iter().rev().collect();
        for ends in [ends, [ends[1], ends[0]]] {
            for (direction, downwards, upwards) in
                [(None, 1, 1), (Some(Direction::Down), 1, 0), (Some(Direction::Up), 0, 1)]
            {
                let line = Crossing { ends, direction };
                assert_eq!((crossings(line, &DOWN), crossings(line, &up)), (downwards, upwards), "{line:?}");
            }
            for direction in [Direction::Left, Direction::Right] {
                assert!(!Crossing { ends, direction: Some(direction) }.is_possible());
            }
        }
        // One that leans is crossed in all directions.
        let leaning = [[0.2, 0.2], [0.8, 0.8]];
        for (direction, count) in
            [(Direction::Right, 1), (Direction::Up, 1), (Direction::Left, 0), (Direction::Down, 0)]
        {
            let line = Crossing { ends: leaning, direction: Some(direction) };
            assert!(line.is_possible());
            assert_eq!(crossings(line, &[[0.3, 0.7], [0.7, 0.3]]), count, "{direction:?}");
        }
    }

    #[test]
    fn who_goes_round_an_end_or_trembles_on_the_line_crosses_nothing() {
        let line = Crossing { ends: [[0.4, 0.5], [0.6, 0.5]], direction: None };
        assert_eq!(crossings(line, &DOWN), 1);
        assert_eq!(crossings(line, &DOWN.map(|[x, y]| [x + 0.11, y])), 0);
        assert_eq!(crossings(line, &[[0.5, 0.48], [0.5, 0.505], [0.5, 0.495], [0.5, 0.509], [0.5, 0.48]]), 0);
        assert_eq!(crossings(line, &[[0.5, 0.48], [0.5, 0.505], [0.5, 0.495], [0.5, 0.52]]), 1);
        assert_eq!(crossings(line, &[[0.5, 0.4], [0.5, 0.6], [0.5, 0.4], [0.5, 0.6]]), 3);
        // It began beyond.
        assert_eq!(crossings(line, &[[0.5, 0.6], [0.5, 0.7]]), 0);
    }

    #[test]
    fn directions_have_the_names_of_the_configuration() {
        assert_eq!(Direction::ALL.map(|(_, direction)| direction.name()), ["up", "down", "left", "right"]);
    }
}
