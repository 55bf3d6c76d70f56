//! The integer computations that exporters write around `Reshape` and `Pad`.

use super::limits::{LimitFault, elements};

/// Most elements of an array that a shape computation may make.
const MAX_SHAPE_ELEMENTS: usize = 1 << 12;

/// What a constant cannot become.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrayFault {
    #[error(transparent)]
    Limit(#[from] LimitFault),
    #[error("cannot reshape {from:?} to {to:?}")]
    Size { from: Vec<usize>, to: Vec<usize> },
    #[error("a 0 in the shape has no dimension to keep")]
    NothingToKeep,
    #[error("the shape {0:?} is invalid")]
    Shape(Vec<i64>),
    #[error("axis {axis} of {axes:?} is invalid for {rank} dimensions")]
    Axis { axis: i64, axes: Vec<i64>, rank: usize },
    #[error("cannot transpose a constant {0:?}; fold constants at export")]
    Transpose(Vec<usize>),
}

/// A dense row-major array.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array<T> {
    pub(super) dims: Vec<usize>,
    pub(super) data: Vec<T>,
}

impl<T: Clone> Array<T> {
    pub(super) fn vector(data: Vec<T>) -> Array<T> {
        Array { dims: vec![data.len()], data }
    }

    /// The only element, if there is exactly one.
    pub(super) fn scalar(&self) -> Option<T> {
        if let [value] = self.data.as_slice() { Some(value.clone()) } else { None }
    }

    /// The same elements under other dimensions.
    pub(super) fn with_dims(self, dims: Vec<usize>) -> Result<Array<T>, ArrayFault> {
        if elements(&dims)? != self.data.len() {
            return Err(ArrayFault::Size { from: self.dims, to: dims });
        }
        Ok(Array { dims, data: self.data })
    }

    /// ONNX `Reshape` to `target`, where 0 keeps a dimension and -1 takes what is left.
    pub(super) fn reshape(self, target: &[i64]) -> Result<Array<T>, ArrayFault> {
        let mut dims = Vec::with_capacity(target.len());
        for (axis, &t) in target.iter().enumerate() {
            dims.push(match t {
                0 => *self.dims.get(axis).ok_or(ArrayFault::NothingToKeep)?,
                -1 => 1,
                _ => usize::try_from(t).map_err(|_| ArrayFault::Shape(target.into()))?,
            });
        }
        if let Some(axis) = target.iter().position(|&t| t == -1) {
            let others = elements(&dims)?.max(1);
            dims[axis] = self.data.len() / others;
        }
        self.with_dims(dims)
    }

    /// ONNX `Unsqueeze`.
    pub(super) fn unsqueeze(self, axes: &[i64]) -> Result<Array<T>, ArrayFault> {
        let rank = self.dims.len() + axes.len();
        let axes = normalise_axes(axes, rank)?;
        let mut old = self.dims.iter().copied();
        let dims = (0..rank).map(|a| if axes.contains(&a) { 1 } else { old.next().unwrap_or(1) }).collect();
        self.with_dims(dims)
    }

    /// ONNX `Squeeze`; without axes every dimension of 1 goes.
    pub(super) fn squeeze(self, axes: Option<&[i64]>) -> Result<Array<T>, ArrayFault> {
        let axes = axes.map(|axes| normalise_axes(axes, self.dims.len())).transpose()?;
        let drop = |axis: usize, d: usize| axes.as_ref().map_or(d == 1, |axes| axes.contains(&axis));
        let dims = self.dims.iter().enumerate().filter(|(a, d)| !drop(*a, **d)).map(|(_, d)| *d).collect();
        self.with_dims(dims)
    }

    /// Transposes a matrix; arrays of lower rank stay as they are.
    pub(super) fn transpose(self, permutation: Option<&[i64]>) -> Result<Array<T>, ArrayFault> {
        match (self.dims.as_slice(), permutation) {
            ([] | [_], None | Some([] | [0])) | (_, Some([0, 1])) => Ok(self),
            (&[rows, columns], None | Some([1, 0])) => {
                let mut data = Vec::with_capacity(self.data.len());
                for column in 0..columns {
                    data.extend((0..rows).map(|row| self.data[row * columns + column].clone()));
                }
                Ok(Array { dims: vec![columns, rows], data })
            }
            _ => Err(ArrayFault::Transpose(self.dims)),
        }
    }

    /// ONNX `Gather` along axis 0.
    pub(super) fn gather(&self, indices: &Array<Option<i64>>) -> Option<Array<T>> {
        let (&length, rest) = self.dims.split_first()?;
        let row = elements(rest).ok()?;
        let mut data = Vec::new();
        for index in &indices.data {
            let index = (*index)?;
            let index = if index < 0 { index.checked_add(length as i64)? } else { index };
            let index = usize::try_from(index).ok().filter(|&i| i < length)?;
            if data.len() + row > MAX_SHAPE_ELEMENTS {
                return None;
            }
            data.extend_from_slice(&self.data[index * row..(index + 1) * row]);
        }
        Some(Array { dims: [indices.dims.as_slice(), rest].concat(), data })
    }

    /// ONNX `Slice` along axis 0 with a step of either sign.
    pub(super) fn slice(&self, start: i64, end: i64, step: i64) -> Option<Array<T>> {
        let (&length, rest) = self.dims.split_first()?;
        let row = elements(rest).ok()?;
        let n = length as i64;
        let absolute = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        if step == 0 || length == 0 {
            return (step != 0).then(|| self.clone());
        }
        // Where the walk may start and where it ends at the latest, as ONNX defines it.
        let (mut at, end) = if step > 0 {
            (absolute(start).clamp(0, n), absolute(end).clamp(0, n))
        } else {
            (absolute(start).clamp(0, n - 1), absolute(end).clamp(-1, n - 1))
        };
        let (mut data, mut count) = (Vec::new(), 0);
        while (step > 0 && at < end) || (step < 0 && at > end) {
            let index = usize::try_from(at).ok().filter(|&i| i < length)?;
            data.extend_from_slice(&self.data[index * row..(index + 1) * row]);
            count += 1;
            at = at.checked_add(step)?;
        }
        Some(Array { dims: [&[count], rest].concat(), data })
    }

    /// ONNX `Concat` along axis 0.
    pub(super) fn concatenate(parts: &[Array<T>]) -> Option<Array<T>> {
        let (first, _) = parts.split_first()?;
        let rest = first.dims.get(1..)?.to_vec();
        let (mut length, mut data) = (0, Vec::new());
        for part in parts {
            if part.dims.get(1..)? != rest || data.len() + part.data.len() > MAX_SHAPE_ELEMENTS {
                return None;
            }
            length += part.dims[0];
            data.extend_from_slice(&part.data);
        }
        Some(Array { dims: [&[length], rest.as_slice()].concat(), data })
    }
}

impl Array<Option<i64>> {
    /// All elements, if all are known.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        self.data.iter().copied().collect()
    }

    /// ONNX `ConstantOfShape`.
    pub(super) fn constant_of_shape(&self, value: i64) -> Option<Array<Option<i64>>> {
        let dims: Vec<usize> =
            self.known()?.into_iter().map(|d| usize::try_from(d).ok()).collect::<Option<_>>()?;
        let count = elements(&dims).ok().filter(|&c| c <= MAX_SHAPE_ELEMENTS)?;
        Some(Array { dims, data: vec![Some(value); count] })
    }

    /// Element-wise arithmetic between arrays of equal shape, or one of them a scalar.
    pub(super) fn arithmetic(&self, operator: &str, other: &Self) -> Option<Array<Option<i64>>> {
        let apply = |a: Option<i64>, b: Option<i64>| -> Option<i64> {
            match operator {
                "Add" => a?.checked_add(b?),
                "Sub" => a?.checked_sub(b?),
                "Mul" => a?.checked_mul(b?),
                "Div" => a?.checked_div(b?),
                _ => None,
            }
        };
        if let (Some(b), true) = (other.scalar(), other.dims.len() <= self.dims.len()) {
            let data = self.data.iter().map(|&a| apply(a, b)).collect();
            return Some(Array { dims: self.dims.clone(), data });
        }
        if let Some(a) = self.scalar() {
            let data = other.data.iter().map(|&b| apply(a, b)).collect();
            return Some(Array { dims: other.dims.clone(), data });
        }
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| apply(a, b)).collect();
        (self.dims == other.dims).then(|| Array { dims: self.dims.clone(), data })
    }
}

/// Axes as indices below `rank`, each at most once.
pub(super) fn normalise_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, ArrayFault> {
    let mut result = Vec::with_capacity(axes.len());
    for &axis in axes {
        let positive = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        let index = positive
            .and_then(|a| usize::try_from(a).ok())
            .filter(|&a| a < rank && !result.contains(&a))
            .ok_or_else(|| ArrayFault::Axis { axis, axes: axes.into(), rank })?;
        result.push(index);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[i64]) -> Array<Option<i64>> {
        Array::vector(values.iter().copied().map(Some).collect())
    }

    /// What `torch.nn.functional.pad` becomes: pairs per axis from the last to the first are
    /// turned into all begins, then all ends.
    #[test]
    fn the_padding_chain_of_pytorch_is_evaluated() {
        let pads = vector(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let matrix = pads.reshape(&[-1, 2]).unwrap();
        let reversed = matrix.slice(-1, i64::MIN + 1, -1).unwrap();
        let chain = reversed.transpose(Some(&[1, 0])).unwrap().reshape(&[-1]).unwrap();
        assert_eq!(chain, vector(&[7, 5, 3, 1, 8, 6, 4, 2]));
    }

    #[test]
    fn slices_clamp_like_onnx() {
        let v = vector(&[0, 1, 2, 3, 4]);
        assert_eq!(v.slice(1, i64::MAX, 2).unwrap(), vector(&[1, 3]));
        assert_eq!(v.slice(-2, 100, 1).unwrap(), vector(&[3, 4]));
        assert_eq!(v.slice(4, 1, 1).unwrap(), vector(&[]));
        assert_eq!(v.slice(100, i64::MIN, -2).unwrap(), vector(&[4, 2, 0]));
        assert!(v.slice(0, 5, 0).is_none());
        assert_eq!(vector(&[]).slice(0, 5, -1).unwrap(), vector(&[]));
    }

    #[test]
    fn unknown_elements_stay_unknown() {
        let shape = Array::vector(vec![None, Some(8), Some(1), Some(1)]);
        let batch = shape.gather(&Array { dims: vec![], data: vec![Some(0)] }).unwrap();
        assert_eq!(batch, Array { dims: vec![], data: vec![None] });
        let target = Array::concatenate(&[batch.unsqueeze(&[0]).unwrap(), vector(&[-1])]).unwrap();
        assert_eq!(target.data, vec![None, Some(-1)]);
        assert!(target.known().is_none());
        assert_eq!(shape.arithmetic("Mul", &vector(&[2])).unwrap().data[1], Some(16));
    }
}
