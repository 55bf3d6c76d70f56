//! Concatenations without a copy: values that are written right where they end up.

/// The channels of another value that a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The value that it is part of, which is itself part of none.
    pub(crate) whole: usize,
    /// Its first channel there.
    pub(crate) first: usize,
}

/// What there is to know of a step. Step `i` writes value `i + 1`.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The values that it reads.
    pub(crate) inputs: Vec<usize>,
    /// Whether it puts the channels of its inputs side by side.
    pub(crate) concatenates: bool,
    /// Whether it can read its first input, and write its output, where it is part of another value.
    pub(crate) takes_strides: bool,
}

/// Where values lie, and what is left to be copied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Joins {
    /// For each value that is part of another one, which.
    pub(crate) places: Vec<Option<Place>>,
    /// For each step that concatenates, the inputs by their index that it has to copy.
    pub(crate) copies: Vec<Vec<usize>>,
}

/// Finds the inputs of concatenations that can be written where they end up: those that only
/// concatenations read, and concatenations in which they begin, such as those of a `DenseNet`, each of which
/// begins with all that the one before it has. `channels` are those of each value.
pub(crate) fn plan(nodes: &[Node], channels: &[usize], outputs: &[usize]) -> Joins {
    let mut users = vec![vec![]; channels.len()];
    for (step, node) in nodes.iter().enumerate() {
        for (index, &value) in node.inputs.iter().enumerate() {
            users[value].push((step, index));
        }
    }
    let places = vec![None; channels.len()];
    let mut planner = Planner { nodes, channels, outputs, users, places, copied: vec![] };
    // The last one first: what is part of it may be a concatenation itself.
    for step in (0..nodes.len()).rev().filter(|&step| nodes[step].concatenates) {
        planner.join(step);
    }
    planner.finish()
}

struct Planner<'a> {
    nodes: &'a [Node],
    channels: &'a [usize],
    outputs: &'a [usize],
    /// The steps that read each value, and as which of their inputs.
    users: Vec<Vec<(usize, usize)>>,
    places: Vec<Option<Place>>,
    copied: Vec<Copied>,
}

/// A value of which a copy lies in another one.
struct Copied {
    value: usize,
    place: Place,
    /// The first step that needs it there.
    step: usize,
}

impl Planner<'_> {
    fn join(&mut self, step: usize) {
        let value = step + 1;
        if self.places[value].is_none()
            && let Some(place) = self.found_within(step)
        {
            self.places[value] = Some(place);
            for (index, &input) in self.nodes[step].inputs.iter().enumerate() {
                let place = Place { first: place.first + self.offset(step, index), ..place };
                let copies = self.copied.iter_mut().filter(|it| it.value == input && it.place == place);
                copies.for_each(|copied| copied.step = step);
            }
            return;
        }
        let whole = self.places[value].unwrap_or(Place { whole: value, first: 0 });
        for (index, &input) in self.nodes[step].inputs.iter().enumerate() {
            let place = Place { first: whole.first + self.offset(step, index), ..whole };
            if self.places[input] == Some(place) {
                continue;
            }
            if self.can_be_written_at(input, place) {
                self.places[input] = Some(place);
            } else {
                self.copied.push(Copied { value: input, place, step });
            }
        }
    }

    /// Where all inputs of a concatenation lie side by side already, if it can be read there.
    fn found_within(&self, step: usize) -> Option<Place> {
        let &first = self.nodes[step].inputs.first()?;
        let copies = self.copied.iter().filter(|copied| copied.value == first).map(|copied| copied.place);
        let mut candidates = self.places[first].into_iter().chain(copies);
        candidates.find(|&start| {
            self.nodes[step].inputs.iter().enumerate().all(|(index, &input)| {
                let place = Place { first: start.first + self.offset(step, index), ..start };
                let is_copied = || self.copied.iter().any(|it| it.value == input && it.place == place);
                self.places[input] == Some(place) || is_copied()
            }) && self.can_be_read_at(step + 1, start)
        })
    }

    /// Whether the step that gives a value can write it as part of another one.
    fn can_be_written_at(&self, value: usize, place: Place) -> bool {
        let Some(step) = value.checked_sub(1) else { return false };
        let node = &self.nodes[step];
        // No step may read and write parts of one value, but for what is in its place.
        let apart = node.inputs.iter().enumerate().all(|(index, &input)| {
            let own = Place { first: place.first + self.offset(step, index), ..place };
            let is_there = self.places[input].is_some_and(|it| it.whole == place.whole);
            !is_there || (node.concatenates && self.places[input] == Some(own))
        });
        self.places[value].is_none()
            && (node.takes_strides || node.concatenates)
            && apart
            && self.can_be_read_at(value, place)
    }

    /// Whether all steps that read a value can read it as part of another one.
    fn can_be_read_at(&self, value: usize, place: Place) -> bool {
        let is_joined = self.nodes[value - 1].concatenates;
        !self.outputs.contains(&value)
            && self.users[value].iter().all(|&(step, index)| {
                let node = &self.nodes[step];
                let of_output = self.places[step + 1].unwrap_or(Place { whole: step + 1, first: 0 });
                let is_there = of_output.whole == place.whole;
                let once = node.inputs.iter().filter(|&&input| input == value).count() == 1;
                if node.concatenates {
                    let own = of_output.first + self.offset(step, index);
                    !is_there || (once && own == place.first)
                } else {
                    is_joined && node.takes_strides && index == 0 && once && !is_there
                }
            })
    }

    /// The channel of a concatenation's output at which one of its inputs begins.
    fn offset(&self, step: usize, index: usize) -> usize {
        self.nodes[step].inputs[..index].iter().map(|&input| self.channels[input]).sum()
    }

    fn finish(self) -> Joins {
        let mut copies = vec![vec![]; self.nodes.len()];
        for Copied { value, place, step } in &self.copied {
            let first = self.places[step + 1].map_or(0, |whole| whole.first);
            let indices = self.nodes[*step].inputs.iter().enumerate();
            let own = indices
                .filter(|&(index, input)| input == value && first + self.offset(*step, index) == place.first);
            copies[*step].extend(own.map(|(index, _)| index));
        }
        for copies in &mut copies {
            copies.sort_unstable();
        }
        Joins { places: self.places, copies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step by its inputs: `c` concatenates, `s` takes strides, `p` does not.
    fn node(kind: char, inputs: &[usize]) -> Node {
        Node { inputs: inputs.to_vec(), concatenates: kind == 'c', takes_strides: kind == 's' }
    }

    fn places(nodes: &[Node], channels: &[usize], outputs: &[usize]) -> (Vec<[usize; 3]>, Vec<Vec<usize>>) {
        let Joins { places, copies } = plan(nodes, channels, outputs);
        let places = places.iter().enumerate();
        let places = places.filter_map(|(value, place)| place.map(|it| [value, it.whole, it.first]));
        (places.collect(), copies)
    }

    #[test]
    fn branches_are_written_side_by_side() {
        // Two convolutions and a pool of one value, side by side.
        let nodes =
            [node('s', &[0]), node('s', &[0]), node('p', &[0]), node('c', &[1, 2, 3]), node('p', &[4])];
        let expected = vec![[1, 4, 0], [2, 4, 3]];
        let copies = vec![vec![], vec![], vec![], vec![2], vec![]];
        assert_eq!(places(&nodes, &[9, 3, 4, 9, 16, 16], &[5]), (expected, copies));
        // What something else reads as well stays whole, and so does an output.
        let nodes = [node('s', &[0]), node('s', &[1]), node('c', &[1, 2]), node('p', &[3])];
        assert_eq!(places(&nodes, &[9, 3, 4, 7, 7], &[4]).0, [[2, 3, 3]]);
        assert_eq!(places(&nodes, &[9, 3, 4, 7, 7], &[2, 4]).0, Vec::<[usize; 3]>::new());
    }

    #[test]
    fn concatenations_that_begin_alike_share_memory() {
        // As torchvision writes a DenseNet: 1 is a pool, which gives 1 channel for each of its layers.
        let nodes = [
            node('p', &[0]),
            node('s', &[1]),
            node('c', &[1, 2]),
            node('s', &[3]),
            node('s', &[4]),
            node('c', &[1, 2, 5]),
            node('s', &[6]),
            node('s', &[7]),
            node('c', &[1, 2, 5, 8]),
            node('p', &[9]),
        ];
        let channels = [3, 10, 2, 12, 8, 2, 14, 8, 2, 16, 5];
        let (found, copies) = places(&nodes, &channels, &[10]);
        assert_eq!(found, [[2, 9, 10], [3, 9, 0], [5, 9, 12], [6, 9, 0], [8, 9, 14]]);
        // The pool's is copied by the first that needs it.
        assert_eq!(copies.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        // As Keras writes it: each is what the one before it is, and more.
        let nodes = [
            node('s', &[0]),
            node('s', &[1]),
            node('c', &[1, 2]),
            node('s', &[3]),
            node('s', &[4]),
            node('c', &[3, 5]),
            node('p', &[6]),
        ];
        let (found, copies) = places(&nodes, &[3, 10, 2, 12, 8, 2, 14, 5], &[7]);
        assert_eq!(found, [[2, 6, 10], [3, 6, 0], [5, 6, 12]]);
        assert_eq!(copies.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn no_step_reads_and_writes_parts_of_one_value() {
        // The third convolution reads the concatenation that it would be written beside.
        let nodes = [
            node('s', &[0]),
            node('s', &[0]),
            node('c', &[1, 2]),
            node('s', &[3]),
            node('c', &[3, 4]),
            node('p', &[5]),
        ];
        let (found, copies) = places(&nodes, &[3, 4, 4, 8, 4, 12, 12], &[6]);
        assert_eq!((found, copies[4].as_slice()), (vec![[1, 5, 0], [2, 5, 4], [3, 5, 0]], [1].as_slice()));
        // A value in two places, and one in another order.
        let nodes = [node('s', &[0]), node('c', &[1, 1]), node('p', &[2])];
        assert_eq!(places(&nodes, &[3, 4, 8, 8], &[3]), (vec![], vec![vec![], vec![0, 1], vec![]]));
        let nodes = [
            node('s', &[0]),
            node('s', &[0]),
            node('c', &[1, 2]),
            node('c', &[2, 1]),
            node('c', &[3, 4]),
            node('p', &[5]),
        ];
        let (found, copies) = places(&nodes, &[3, 4, 4, 8, 8, 16, 16], &[6]);
        assert_eq!(found, [[3, 5, 0], [4, 5, 8]]);
        assert_eq!(copies, [vec![], vec![], vec![0, 1], vec![0, 1], vec![], vec![]]);
    }
}
