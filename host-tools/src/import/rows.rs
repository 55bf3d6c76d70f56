//! Maps one behind the other, as detectors are exported: `[batch, boxes, numbers of a box]`.
//!
//! Such a tensor is only good as an output. The int8 network gives the maps themselves, and who decodes
//! them knows where each number lies.

use std::collections::VecDeque;

use resight_model_file::Activation;

use super::data::{Axis, Data};
use super::fault::outputs::OutputFault;

/// A tensor that maps are one behind the other in.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    parts: Vec<Part>,
    /// The dimension along which they are.
    joined: usize,
    /// What the file makes of the values in the end.
    activation: Option<Activation>,
}

/// One of the maps.
#[derive(Debug, Clone)]
struct Part {
    data: Data,
    /// What each dimension of the tensor is made of, the last axis moving fastest. Axes of one place are
    /// left out.
    dims: Vec<Vec<Axis>>,
}

/// A map that an output stands for.
pub(super) struct Map {
    pub(super) operation: usize,
    pub(super) shape: [usize; 3],
    /// The order of channels by anchors, where the map has another one.
    pub(super) order: Option<Vec<usize>>,
    pub(super) activation: Option<Activation>,
}

impl Part {
    /// The size of an axis, where channels are divided into so many groups.
    fn size(&self, axis: Axis) -> usize {
        let groups = self.dims.iter().flatten().find_map(|axis| match axis {
            Axis::Outer(groups) => Some(*groups),
            _ => None,
        });
        match axis {
            Axis::Inner => self.data.shape[0] / groups.unwrap_or(1),
            other => self.data.size(other),
        }
    }

    fn len(&self, dimension: usize) -> usize {
        self.dims[dimension].iter().map(|&axis| self.size(axis)).product()
    }

    /// All axes, without the batch.
    fn axes(&self) -> Vec<Axis> {
        self.dims.concat().into_iter().filter(|axis| *axis != Axis::Batch).collect()
    }
}

impl Rows {
    /// A result of the network under dimensions that merge some of its own.
    pub(super) fn of(data: &Data, dims: &[usize]) -> Option<Self> {
        let is_plain = data.padding == [0; 4] && data.parts() == 1;
        if data.layout.first() != Some(&Axis::Batch) || dims.first() != Some(&1) || !is_plain {
            return None;
        }
        let expanded = data.layout[1..].iter().flat_map(|&axis| match axis {
            Axis::Features => vec![Axis::Channels, Axis::Height, Axis::Width],
            other => vec![other],
        });
        let (mut left, mut groups): (VecDeque<Axis>, usize) =
            (expanded.filter(|&axis| data.size(axis) > 1).collect(), data.groups());
        let mut made = vec![vec![Axis::Batch]];
        for &dim in &dims[1..] {
            let (mut merged, mut size) = (vec![], 1);
            while size < dim {
                let axis = left.pop_front()?;
                let own = if axis == Axis::Inner { data.shape[0] / groups } else { data.size(axis) };
                if dim % (size * own) == 0 {
                    merged.push(axis);
                    size *= own;
                } else if axis == Axis::Channels && dim % size == 0 && own % (dim / size) == 0 {
                    groups = dim / size;
                    merged.push(Axis::Outer(groups));
                    left.push_front(Axis::Inner);
                    size = dim;
                } else {
                    return None;
                }
            }
            if size != dim {
                return None;
            }
            made.push(merged);
        }
        let part = Part { data: data.clone(), dims: made };
        left.is_empty().then(|| Self { parts: vec![part], joined: 1, activation: None })
    }

    /// The size of each dimension.
    pub(super) fn dims(&self) -> Vec<usize> {
        let rank = self.parts.first().map_or(0, |part| part.dims.len());
        let size = |dimension: usize| {
            let sizes = self.parts.iter().map(|part| part.len(dimension));
            if dimension == self.joined { sizes.sum() } else { sizes.max().unwrap_or(1) }
        };
        (0..rank).map(size).collect()
    }

    /// The same numbers under other dimensions.
    pub(super) fn reshape(&self, dims: &[usize]) -> Option<Self> {
        let own = self.dims();
        if own == dims {
            return Some(self.clone());
        }
        match (own.as_slice(), dims) {
            // One behind the other in memory too.
            (&[1, rows, numbers], &[1, all]) if self.joined == 1 && rows * numbers == all => {
                let merged = |part: &Part| Part {
                    dims: vec![vec![Axis::Batch], part.axes()],
                    data: part.data.clone(),
                };
                Some(Self { parts: self.parts.iter().map(merged).collect(), ..self.clone() })
            }
            (&[1, all], &[1, rows, numbers]) if rows * numbers == all => {
                let divided = |part: &Part| {
                    let mut axes = part.axes();
                    let size = part.size(*axes.last()?);
                    let last = match axes.pop()? {
                        axis if size == numbers => axis,
                        Axis::Channels if size.is_multiple_of(numbers) => {
                            axes.push(Axis::Outer(size / numbers));
                            Axis::Inner
                        }
                        _ => return None,
                    };
                    let is_of_channels = matches!(last, Axis::Channels | Axis::Inner | Axis::Outer(_));
                    let dims = vec![vec![Axis::Batch], axes, vec![last]];
                    is_of_channels.then(|| Part { dims, data: part.data.clone() })
                };
                let parts = self.parts.iter().map(divided).collect::<Option<_>>()?;
                Some(Self { parts, ..self.clone() })
            }
            _ => None,
        }
    }

    /// With its dimensions in another order.
    pub(super) fn transpose(&self, order: &[usize]) -> Option<Self> {
        if order.first() != Some(&0) || order.len() != self.dims().len() {
            return None;
        }
        let moved = |part: &Part| Part {
            dims: order.iter().map(|&dimension| part.dims[dimension].clone()).collect(),
            data: part.data.clone(),
        };
        let joined = order.iter().position(|&dimension| dimension == self.joined)?;
        Some(Self { parts: self.parts.iter().map(moved).collect(), joined, activation: self.activation })
    }

    /// One behind the other along a dimension.
    pub(super) fn concat(all: &[Self], axis: usize) -> Option<Self> {
        let first = all.first()?;
        let dims = first.dims();
        let fits = |rows: &Self| {
            let own = rows.dims();
            own.len() == dims.len()
                && (0..dims.len()).all(|at| at == axis || own[at] == dims[at])
                && (rows.parts.len() == 1 || rows.joined == axis)
                && rows.activation == first.activation
        };
        if axis == 0 || axis >= dims.len() || !all.iter().all(fits) {
            return None;
        }
        let parts = all.iter().flat_map(|rows| rows.parts.clone()).collect();
        Some(Self { parts, joined: axis, activation: first.activation })
    }

    /// The dimension that has the numbers of a box, or the scores of all classes.
    fn numbers(&self) -> Option<usize> {
        let is_place = |axis: &Axis| matches!(axis, Axis::Height | Axis::Width);
        let has_places = |at: usize| self.parts.iter().any(|part| part.dims[at].iter().any(is_place));
        match self.dims().len() {
            3 if self.parts.len() > 1 => Some(3 - self.joined),
            3 => Some(if has_places(2) { 1 } else { 2 }),
            _ => None,
        }
    }

    /// With the probabilities of all classes of each box, which the file makes along `axis`, or of each
    /// value by itself where there is none.
    pub(super) fn ending_in(self, activation: Activation, axis: Option<usize>) -> Option<Self> {
        if axis.is_some() && axis != self.numbers() {
            return None;
        }
        self.activation.is_none().then_some(Self { activation: Some(activation), ..self })
    }

    /// The maps, or why they are none.
    pub(super) fn maps(&self) -> Result<Vec<Map>, OutputFault> {
        let numbers = self.numbers();
        self.parts.iter().map(|part| self.map(part, numbers)).collect()
    }

    fn map(&self, part: &Part, numbers: Option<usize>) -> Result<Map, OutputFault> {
        let [channels, _, _] = part.data.shape;
        let axes = part.axes();
        let place = |wanted: fn(&Axis) -> bool| axes.iter().position(wanted);
        let outer = place(|axis| matches!(axis, Axis::Outer(_)));
        let inner = place(|axis| *axis == Axis::Inner);
        let is_place = |axis: &Axis| matches!(axis, Axis::Height | Axis::Width);
        let by_numbers = match numbers {
            Some(at) if part.dims[at].iter().any(is_place) => {
                return Err(OutputFault::Mixed);
            }
            Some(at) => matches!(part.dims[at][..], [Axis::Outer(_)]) && inner.is_some(),
            None => outer > inner && inner.is_some(),
        };
        let groups = outer.map_or(1, |at| part.size(axes[at]));
        let each = channels / groups;
        let order = by_numbers.then(|| (0..channels).map(|at| at % groups * each + at / groups).collect());
        let (operation, activation) = (part.data.operation, self.activation);
        Ok(Map { operation, shape: part.data.shape, order, activation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::data::NCHW;

    fn data(channels: usize, height: usize, width: usize, layout: &[Axis]) -> Data {
        Data { operation: 7, shape: [channels, height, width], padding: [0; 4], layout: layout.to_vec() }
    }

    const BY_PLACES: [Axis; 4] = [Axis::Batch, Axis::Height, Axis::Width, Axis::Channels];

    #[test]
    fn torchvisions_levels_lie_one_behind_the_other() {
        // view(N, A, K, H, W), permute(0, 3, 4, 1, 2), reshape(N, -1, K), cat(dim = 1).
        let permuted = [Axis::Batch, Axis::Height, Axis::Width, Axis::Outer(3), Axis::Inner];
        let large = Rows::of(&data(12, 6, 5, &permuted), &[1, 90, 4]).unwrap();
        // Of one place only: rows and columns are no dimensions of it.
        let small =
            Rows::of(&data(12, 1, 1, &[Axis::Batch, Axis::Outer(3), Axis::Inner]), &[1, 3, 4]).unwrap();
        let rows = Rows::concat(&[large, small], 1).unwrap();
        assert_eq!(rows.dims(), [1, 93, 4]);
        let maps = rows.maps().unwrap();
        assert!(maps.len() == 2 && maps.iter().all(|map| map.order.is_none() && map.operation == 7));
        assert!(rows.clone().ending_in(Activation::Softmax, Some(1)).is_none());
        let ended = rows.ending_in(Activation::Softmax, Some(2)).unwrap();
        assert_eq!(ended.maps().unwrap()[1].activation, Some(Activation::Softmax));
    }

    #[test]
    fn caffes_levels_are_divided_in_the_end() {
        let flat = |height, width| {
            let size = 8 * height * width;
            Rows::of(&data(8, height, width, &BY_PLACES), &[1, size]).unwrap()
        };
        let rows = Rows::concat(&[flat(4, 3), flat(2, 1)], 1).unwrap();
        let rows = rows.reshape(&[1, 56, 2]).unwrap();
        assert_eq!(rows.dims(), [1, 56, 2]);
        assert!(rows.reshape(&[1, 28, 4]).is_none());
        assert_eq!(rows.reshape(&[1, 112]).unwrap().dims(), [1, 112]);
        assert!(rows.maps().unwrap().iter().all(|map| map.order.is_none()));
    }

    #[test]
    fn numbers_before_anchors_are_put_in_the_order_of_anchors() {
        // view(N, 4, -1), cat(dim = 2): the channel of number k of anchor a is 2 * k + a.
        let [large, small] =
            [(5, 3), (1, 1)].map(|(h, w)| Rows::of(&data(8, h, w, &NCHW), &[1, 4, 2 * h * w]).unwrap());
        let rows = Rows::concat(&[large, small], 2).unwrap();
        assert_eq!(rows.dims(), [1, 4, 32]);
        for rows in [rows.transpose(&[0, 2, 1]).unwrap(), rows] {
            for map in rows.maps().unwrap() {
                assert_eq!(map.order.unwrap(), [0, 2, 4, 6, 1, 3, 5, 7]);
            }
        }
    }

    #[test]
    fn what_mixes_places_and_numbers_is_none() {
        assert!(Rows::of(&data(8, 5, 3, &NCHW), &[1, 60, 2]).is_none());
        // Rows of a map as numbers of a box.
        let rows = Rows::of(&data(1, 5, 3, &BY_PLACES), &[1, 5, 3]).unwrap();
        assert!(matches!(rows.maps(), Err(OutputFault::Mixed)));
    }
}
