//! Large constants of floats, which stay in their file until they are needed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use prost::Message as _;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{StringStringEntryProto, TensorProto};

use super::wire;

/// So many values, 1 MiB, are left in their file.
pub(super) const LEAST_VALUES: usize = 1 << 18;
/// Bytes that are read at once.
const PART: usize = 1 << 16;

/// Why the values of a constant cannot be read from their file.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Read {
        /// The ONNX file, or the external data file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file is no longer the one that was read.
    #[error("{path}: the file has changed since it was first read; start again once it is complete", path = path.display())]
    Changed {
        /// The ONNX file, or the external data file.
        path: PathBuf,
    },
}

/// A constant of floats that lies in a file: the ONNX file itself, or one with external data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The initialiser's name.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<usize>,
    path: PathBuf,
    offset: u64,
    /// Size and time of the last change.
    version: (u64, Option<SystemTime>),
}

impl Outside {
    /// The constant `name` of the dimensions `dims`, of 4 bytes for each value from `offset` on.
    ///
    /// # Errors
    /// A file that is not there.
    pub(super) fn new(
        name: &str,
        dims: Vec<usize>,
        path: &Path,
        offset: u64,
    ) -> Result<Outside, OutsideError> {
        let version = version(path)?;
        Ok(Outside { name: name.into(), dims, path: path.into(), offset, version })
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the values, as many as `values` takes.
    ///
    /// # Errors
    /// A file that cannot be read, or is another one than before.
    pub fn read(&self, values: &mut [f32]) -> Result<(), OutsideError> {
        let failed = |cause| OutsideError::Read { path: self.path.clone(), cause };
        if version(&self.path)? != self.version {
            return Err(OutsideError::Changed { path: self.path.clone() });
        }
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut bytes = vec![0; PART];
        for part in values.chunks_mut(PART / size_of::<f32>()) {
            let bytes = &mut bytes[..size_of_val(part)];
            file.read_exact(bytes).map_err(failed)?;
            let (values, _) = bytes.as_chunks::<{ size_of::<f32>() }>();
            for (value, bytes) in part.iter_mut().zip(values) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }
}

fn version(path: &Path) -> Result<(u64, Option<SystemTime>), OutsideError> {
    let metadata =
        std::fs::metadata(path).map_err(|cause| OutsideError::Read { path: path.into(), cause })?;
    Ok((metadata.len(), metadata.modified().ok()))
}

/// Whether an initialiser of these dimensions is left in its file.
pub(super) fn stays_outside(tensor: &TensorProto, values: usize) -> bool {
    tensor.data_type == DataType::Float as i32 && values >= LEAST_VALUES
}

/// The bytes of an ONNX file without the values of its large initialisers of floats: they are external data in
/// the file `name` itself then. `None` where there are none, or where the file is damaged.
pub(super) fn without_values(file: &[u8], name: &str) -> Option<Vec<u8>> {
    const MODEL_GRAPH: u64 = 7;
    const GRAPH_INITIALISER: u64 = 5;
    let mut found = false;
    let model = wire::rewritten(file, MODEL_GRAPH, |graph| {
        wire::rewritten(graph, GRAPH_INITIALISER, |tensor| {
            let slim = without_value(file, tensor, name);
            found |= slim.is_some();
            Some(slim.unwrap_or_else(|| tensor.to_vec()))
        })
    });
    model.filter(|_| found)
}

/// One initialiser without its values; `None` where they stay.
fn without_value(file: &[u8], tensor: &[u8], name: &str) -> Option<Vec<u8>> {
    const RAW_DATA: u64 = 9;
    let mut values = None;
    let mut rest = vec![];
    let mut bytes = tensor;
    while !bytes.is_empty() {
        let field = wire::next(&mut bytes)?;
        match (field.number, field.content) {
            (RAW_DATA, Some(content)) if content.len() >= LEAST_VALUES * size_of::<f32>() => {
                if values.replace(content).is_some() {
                    return None;
                }
            }
            _ => rest.extend_from_slice(field.bytes),
        }
    }
    let values = values?;
    let stated = TensorProto::decode(rest.as_slice()).ok()?;
    let fits = stated.data_type == DataType::Float as i32
        && stated.data_location.is_none()
        && stated.external_data.is_empty()
        && stated.segment.is_none()
        && stated.raw_data.is_empty()
        && stated.float_data.is_empty();
    let count = stated
        .dims
        .iter()
        .try_fold(1usize, |product, &dimension| product.checked_mul(usize::try_from(dimension).ok()?))?;
    if !fits || count.checked_mul(size_of::<f32>()) != Some(values.len()) {
        return None;
    }
    let offset = values.as_ptr().addr().checked_sub(file.as_ptr().addr())?;
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let place = TensorProto {
        external_data: vec![
            entry("location", name.into()),
            entry("offset", offset.to_string()),
            entry("length", values.len().to_string()),
        ],
        data_location: Some(DataLocation::External as i32),
        ..TensorProto::default()
    };
    // Messages one behind the other are one.
    rest.extend(place.encode_to_vec());
    Some(rest)
}

/// What lies outside, by the index of the initialiser.
pub(super) type OutsideConstants = BTreeMap<usize, Outside>;

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{GraphProto, ModelProto};

    fn model(count: usize, data_type: DataType) -> ModelProto {
        let values = (0..count).flat_map(|at| (at as f32).to_le_bytes()).collect();
        let large = TensorProto {
            name: "large".into(),
            dims: vec![2, count as i64 / 2],
            data_type: data_type as i32,
            raw_data: values,
            ..TensorProto::default()
        };
        let small = TensorProto { name: "small".into(), float_data: vec![1.0], ..TensorProto::default() };
        ModelProto {
            ir_version: 8,
            graph: Some(GraphProto { initializer: vec![small, large], ..GraphProto::default() }),
            ..ModelProto::default()
        }
    }

    #[test]
    fn large_values_stay_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.onnx");
        let whole = model(LEAST_VALUES, DataType::Float);
        std::fs::write(&path, whole.encode_to_vec()).unwrap();
        let slim = without_values(&std::fs::read(&path).unwrap(), "a.onnx").unwrap();
        assert!(slim.len() < 200, "{}", slim.len());
        let slim = ModelProto::decode(slim.as_slice()).unwrap();
        assert_eq!(slim.ir_version, 8);
        let [small, large] = slim.graph.unwrap().initializer.try_into().unwrap();
        assert_eq!((small.name.as_str(), small.float_data), ("small", vec![1.0]));
        let offset = large.external_data[1].value.parse().unwrap();
        let outside = Outside::new("large", vec![2, LEAST_VALUES / 2], &path, offset).unwrap();
        let mut values = vec![0.0; outside.len()];
        outside.read(&mut values).unwrap();
        assert!(values.iter().copied().eq((0..LEAST_VALUES).map(|at| at as f32)));

        std::fs::write(&path, b"another file").unwrap();
        let error = outside.read(&mut values).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("the file has changed since it was first read; start again once it is complete")
        );
    }

    #[test]
    fn small_values_and_other_types_stay_in_the_message() {
        assert!(without_values(&model(LEAST_VALUES - 2, DataType::Float).encode_to_vec(), "a").is_none());
        assert!(without_values(&model(LEAST_VALUES, DataType::Int32).encode_to_vec(), "a").is_none());
    }

    #[test]
    fn values_that_do_not_fit_are_left_for_the_message_about_them() {
        let mut model = model(LEAST_VALUES, DataType::Float);
        model.graph.as_mut().unwrap().initializer[1].dims = vec![7];
        assert!(without_values(&model.encode_to_vec(), "a").is_none());
    }
}
