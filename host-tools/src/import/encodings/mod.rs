//! Encodings of AIMET: a network of floats, and a JSON file beside it that says which of its tensors are rounded to
//! what. Together they are the file with `QuantizeLinear` and `DequantizeLinear` that they stand for.

pub(super) mod fault;

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use self::fault::MAX_BYTES;
pub use self::fault::{EncodingFault, EncodingsError};
use super::array::Array;
use super::model::integer;
use super::names::printable;
use super::tensor;

/// Bits of what is left as it is: biases, which are computed with 32 bits here too.
const BITS_OF_BIASES: u64 = 32;

/// What a tensor is rounded to.
#[derive(Debug, Clone, PartialEq)]
struct Encoding {
    name: String,
    /// One, or one for each channel.
    scales: Vec<f32>,
    /// As many.
    zero_points: Vec<i64>,
    is_signed: bool,
    /// Along which the channels lie, where it is said.
    axis: Option<i64>,
}

/// Puts the roundings that the file `encodings` says into a network of floats.
///
/// # Errors
/// A file that is none of encodings, and one that does not fit the network.
pub(super) fn apply(proto: &mut ModelProto, encodings: &Path) -> Result<(), EncodingsError> {
    let all = read(encodings)?;
    let Some(graph) = proto.graph.as_mut() else { return Ok(()) };
    let of_nodes = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output));
    let names = of_nodes.chain(graph.initializer.iter().map(|tensor| &tensor.name)).cloned().collect();
    let mut placed = Placed { graph, names };
    for encoding in all {
        let name = encoding.name.clone();
        placed.put(encoding).map_err(|fault| EncodingsError::Encoding {
            path: encodings.into(),
            name: printable(&name),
            fault,
        })?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<Encoding>, EncodingsError> {
    let failed = |cause| EncodingsError::Read { path: path.into(), cause };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        return Err(EncodingsError::Size { path: path.into(), bytes });
    }
    let text = std::fs::read(path).map_err(failed)?;
    let file: Value =
        serde_json::from_slice(&text).map_err(|cause| EncodingsError::Json { path: path.into(), cause })?;
    let version = file["version"].as_str().unwrap_or_default();
    let other = || {
        let found = if version.is_empty() { "no version".into() } else { format!("version {version}") };
        EncodingsError::Version { path: path.into(), found: printable(&found) }
    };
    let entries = match version.split('.').next() {
        Some("0") => by_name(&file),
        Some("1") => listed(&file),
        Some("2") => file["encodings"].as_array().map(|all| all.iter().map(named).collect()),
        _ => None,
    };
    let mut all = vec![];
    for (name, entry) in entries.ok_or_else(other)? {
        let read = match version.split('.').next() {
            Some("0") => of_list(entry),
            Some("1") => of_bits(entry, "bw"),
            _ => of_type(entry),
        };
        let refuse = |fault| EncodingsError::Encoding { path: path.into(), name: printable(name), fault };
        all.extend(read.map_err(refuse)?.map(|encoding| Encoding { name: name.into(), ..encoding }));
    }
    Ok(all)
}

type Entries<'a> = Vec<(&'a str, &'a Value)>;

/// The two kinds of encodings, which are here the same.
const KINDS: [&str; 2] = ["activation_encodings", "param_encodings"];

/// Version 0: an object with a list of encodings for each tensor.
fn by_name(file: &Value) -> Option<Entries<'_>> {
    let mut entries = vec![];
    for kind in KINDS {
        entries.extend(file[kind].as_object()?.iter().map(|(name, entry)| (name.as_str(), entry)));
    }
    Some(entries)
}

/// Version 1: lists of objects with names.
fn listed(file: &Value) -> Option<Entries<'_>> {
    let mut entries = vec![];
    for kind in KINDS {
        entries.extend(file[kind].as_array()?.iter().map(named));
    }
    Some(entries)
}

fn named(entry: &Value) -> (&str, &Value) {
    (entry["name"].as_str().unwrap_or_default(), entry)
}

/// A list of objects, one for each channel.
fn of_list(list: &Value) -> Result<Option<Encoding>, EncodingFault> {
    let list = list.as_array().filter(|list| !list.is_empty()).ok_or(EncodingFault::Missing("bitwidth"))?;
    let mut whole: Option<Encoding> = None;
    for entry in list {
        let Some(one) = of_bits(entry, "bitwidth")? else { return Ok(None) };
        match &mut whole {
            None => whole = Some(one),
            Some(whole) => {
                whole.scales.extend(one.scales);
                whole.zero_points.extend(one.zero_points);
            }
        }
    }
    Ok(whole)
}

/// An object with a number of bits, and offsets from the least integer.
fn of_bits(entry: &Value, bits: &'static str) -> Result<Option<Encoding>, EncodingFault> {
    let bits = entry[bits].as_u64().ok_or(EncodingFault::Missing(bits))?;
    let is_float = entry["dtype"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("float"));
    match (is_float, bits) {
        (_, BITS_OF_BIASES) => return Ok(None),
        (true, bits) => return Err(EncodingFault::Float(bits)),
        (false, 8) => {}
        (false, bits) => return Err(EncodingFault::Bits(bits)),
    }
    if entry["enc_type"].as_str().is_some_and(|kind| kind.contains("BLOCK")) {
        return Err(EncodingFault::Blocks);
    }
    let scales = reals(&entry["scale"]).ok_or(EncodingFault::Missing("scale"))?;
    let offsets = integers(&entry["offset"]).ok_or(EncodingFault::Missing("offset"))?;
    let zero_points = offsets.into_iter().map(i64::wrapping_neg).collect();
    Ok(Some(Encoding { name: String::new(), scales, zero_points, is_signed: false, axis: None }))
}

/// An object with the names that ONNX has for all of it.
fn of_type(entry: &Value) -> Result<Option<Encoding>, EncodingFault> {
    let kind = entry["output_dtype"].as_str().ok_or(EncodingFault::Missing("output_dtype"))?;
    let digits: String = kind.chars().filter(char::is_ascii_digit).collect();
    let bits = digits.parse().unwrap_or(0);
    let is_signed = match kind {
        "int32" => return Ok(None),
        "int8" => true,
        "uint8" => false,
        float if float.contains("float") => return Err(EncodingFault::Float(bits)),
        _ => return Err(EncodingFault::Bits(bits)),
    };
    if entry["block_size"].as_u64().is_some_and(|size| size > 0) {
        return Err(EncodingFault::Blocks);
    }
    let scales = reals(&entry["y_scale"]).ok_or(EncodingFault::Missing("y_scale"))?;
    let zero_points = match &entry["y_zero_point"] {
        Value::Null => vec![0; scales.len()],
        zeros => integers(zeros).ok_or(EncodingFault::Missing("y_zero_point"))?,
    };
    Ok(Some(Encoding { name: String::new(), scales, zero_points, is_signed, axis: entry["axis"].as_i64() }))
}

/// A number, or a list of some.
fn reals(value: &Value) -> Option<Vec<f32>> {
    match value {
        Value::Array(values) => values.iter().map(|value| value.as_f64().map(|value| value as f32)).collect(),
        value => Some(vec![value.as_f64()? as f32]),
    }
}

/// A whole number, or a list of some.
fn integers(value: &Value) -> Option<Vec<i64>> {
    let whole = |value: &Value| {
        let real = value.as_f64().filter(|real| real.fract() == 0.0 && real.abs() < 1e9)?;
        Some(real as i64)
    };
    match value {
        Value::Array(values) => values.iter().map(whole).collect(),
        value => Some(vec![whole(value)?]),
    }
}

/// A graph while roundings are put into it.
struct Placed<'a> {
    graph: &'a mut GraphProto,
    /// Of all tensors.
    names: HashSet<String>,
}

impl Placed<'_> {
    fn put(&mut self, encoding: Encoding) -> Result<(), EncodingFault> {
        let Encoding { name, scales, zero_points, is_signed, axis } = encoding;
        if scales.len() != zero_points.len() || scales.is_empty() {
            return Err(EncodingFault::Count { scales: scales.len(), zero_points: zero_points.len() });
        }
        let range = if is_signed { -128..=127 } else { 0..=255 };
        if let Some(&zero) = zero_points.iter().find(|&zero| !range.contains(zero)) {
            return Err(EncodingFault::ZeroPoint(zero));
        }
        let maker =
            self.graph.node.iter().position(|node| node.op_type != "Constant" && node.output.contains(&name));
        if maker.is_none() && !self.names.contains(&name) {
            return Err(EncodingFault::Unknown);
        }
        let axis = axis.unwrap_or_else(|| self.axis_of(&name));
        let (real, rounded) = if let Some(maker) = maker {
            // Who takes the tensor takes the rounded one.
            let real = self.unused(&format!("{name}_unrounded"));
            let outputs = &mut self.graph.node[maker].output;
            outputs.iter_mut().filter(|output| **output == name).for_each(|output| output.clone_from(&real));
            (real, name)
        } else {
            let rounded = self.unused(&format!("{name}_rounded"));
            let inputs = self.graph.node.iter_mut().flat_map(|node| &mut node.input);
            inputs.filter(|input| **input == name).for_each(|input| input.clone_from(&rounded));
            (name, rounded)
        };
        let dims = if scales.len() == 1 { vec![] } else { vec![scales.len()] };
        let stored =
            [self.unused(&format!("{rounded}_scale")), self.unused(&format!("{rounded}_zero_point"))];
        let kind = if is_signed { DataType::Int8 } else { DataType::Uint8 };
        self.graph.initializer.push(TensorProto {
            name: stored[1].clone(),
            dims: dims.iter().map(|&size| size as i64).collect(),
            data_type: kind as i32,
            raw_data: zero_points.iter().map(|&zero| zero as u8).collect(),
            ..TensorProto::default()
        });
        self.graph.initializer.push(tensor::to_proto(&stored[0], &Array { dims, data: scales }));
        let integers = self.unused(&format!("{rounded}_integers"));
        let [scale, zero] = stored;
        for (operator, from, to) in
            [("QuantizeLinear", &real, &integers), ("DequantizeLinear", &integers, &rounded)]
        {
            self.graph.node.push(NodeProto {
                op_type: operator.into(),
                input: vec![from.clone(), scale.clone(), zero.clone()],
                output: vec![to.clone()],
                attribute: vec![integer("axis", axis)],
                ..NodeProto::default()
            });
        }
        Ok(())
    }

    /// Along which axis the outputs of a layer with these weights lie.
    fn axis_of(&self, weights: &str) -> i64 {
        let layer = self.graph.node.iter().find(|node| node.input.get(1).is_some_and(|name| name == weights));
        let Some(layer) = layer else { return 0 };
        let is_transposed =
            layer.attribute.iter().any(|attribute| attribute.name == "transB" && attribute.i != 0);
        match layer.op_type.as_str() {
            "ConvTranspose" | "MatMul" => 1,
            "Gemm" => i64::from(!is_transposed),
            _ => 0,
        }
    }

    fn unused(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }
}
