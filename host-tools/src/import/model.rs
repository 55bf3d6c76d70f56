//! The outside of an ONNX model: operator set, initialisers, input and output; and the model that
//! is left for the reference engine.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

use super::array::Array;
use super::fault::ModelFault;
use super::fault::image::ImageFault;
use super::limits::check_activation;
use super::names::{is_standard, printable};
use super::outside::OutsideConstants;
use super::tensor::{self, Constant};
use super::value::{Axis, NCHW, NHWC};
use super::width::Width;

/// Most outputs of a file.
const MAX_OUTPUTS: usize = 16;

/// Standard ONNX operator sets that are understood.
pub const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 7..=26;

/// Which outputs of a file are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The logits of a classifier: the output of this name, or else the one that all others lead to.
    Logits(Option<String>),
    /// The same of a classifier that is quantised already, with marks of what its file rounds.
    Rounded(Option<String>),
    /// The outputs of these names, or the first one where there are none, as maps.
    Maps(Vec<String>),
    /// A vector that says what a picture shows: the output of this name, or else the one that all others
    /// lead to.
    Vector(Option<String>),
}

/// A model with one image as input.
pub(super) struct Model {
    /// Version of the standard operators.
    pub(super) opset: i64,
    /// The graph, without its initialisers.
    pub(super) graph: GraphProto,
    pub(super) tensors: Vec<TensorProto>,
    /// Index into `tensors` by name.
    pub(super) initialisers: HashMap<String, usize>,
    /// Name of the input tensor.
    pub(super) input: String,
    /// The input's `[channels, height, width]`.
    pub(super) shape: [usize; 3],
    /// The order of the input's dimensions.
    pub(super) layout: [Axis; 4],
    /// Whether the input is of whole numbers from 0 to 255.
    pub(super) grey_levels: bool,
    /// Names of the output tensors: one of a classifier.
    pub(super) outputs: Vec<String>,
    /// Which outputs these are.
    pub(super) ending: Ending,
    ir_version: i64,
}

impl Model {
    /// `size` is the image's `[height, width]` where the file leaves them open.
    pub(super) fn new(
        mut proto: ModelProto,
        size: Option<[usize; 2]>,
        ending: Ending,
    ) -> Result<Model, ModelFault> {
        let opset = operator_set(&proto)?;
        if let Some(function) = proto.functions.first() {
            return Err(ModelFault::Function { name: function.name.clone().unwrap_or_default() });
        }
        let mut graph = proto.graph.take().ok_or(ModelFault::NoGraph)?;
        let mut initialisers = HashMap::new();
        for (index, tensor) in graph.initializer.iter().enumerate() {
            if initialisers.insert(tensor.name.clone(), index).is_some() {
                return Err(ModelFault::InitialiserTwice { name: tensor.name.clone() });
            }
        }
        let outputs = match &ending {
            Ending::Logits(Some(name)) | Ending::Rounded(Some(name)) | Ending::Vector(Some(name)) => {
                vec![named_output(&graph, name)?]
            }
            Ending::Logits(None) | Ending::Rounded(None) | Ending::Vector(None) => vec![last_output(&graph)?],
            Ending::Maps(names) => maps(&graph, names)?,
        };
        let Image { name: input, shape, layout, grey_levels } = image(&graph, &initialisers, &outputs, size)?;
        let tensors = std::mem::take(&mut graph.initializer);
        let ir_version = proto.ir_version;
        Ok(Model {
            opset,
            graph,
            tensors,
            initialisers,
            input,
            shape,
            layout,
            grey_levels,
            outputs,
            ending,
            ir_version,
        })
    }

    /// The graph's name, or the stem of the file's.
    pub(super) fn name(&self, path: &Path) -> String {
        if self.graph.name.is_empty() {
            path.file_stem().map_or("network".into(), |stem| stem.to_string_lossy().into_owned())
        } else {
            self.graph.name.clone()
        }
    }

    /// What [`Imported::proto`](super::Imported::proto) describes, but for its output, of the nodes
    /// `order`.
    pub(super) fn reference(mut self, order: &[usize], reference: Reference) -> ModelProto {
        let initializer = reference
            .tensors
            .into_iter()
            .enumerate()
            .filter_map(|(index, tensor)| reference.used.contains(&index).then_some(tensor))
            .collect();
        let mut nodes: Vec<Option<NodeProto>> =
            std::mem::take(&mut self.graph.node).into_iter().map(Some).collect();
        let node = order
            .iter()
            .filter_map(|&index| nodes[index].take())
            .filter(|node| !node.output.first().is_some_and(|output| reference.prepared.contains(output)))
            .map(in_f32)
            .chain(reference.added)
            .collect();
        ModelProto {
            ir_version: self.ir_version,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            graph: Some(GraphProto {
                name: self.graph.name,
                node,
                initializer,
                input: vec![float_input(&reference.input, self.shape)],
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// What the reference engine needs of an import.
pub(super) struct Reference {
    /// The tensor that the image is.
    pub(super) input: String,
    /// First outputs of nodes that are left out.
    pub(super) prepared: HashSet<String>,
    /// Nodes besides those of the file.
    pub(super) added: Vec<NodeProto>,
    pub(super) tensors: Vec<TensorProto>,
    /// Indices of the `tensors` that are needed.
    pub(super) used: HashSet<usize>,
    /// Others that are, but lie outside.
    pub(super) outside: OutsideConstants,
}

/// The outputs of these names, or the first one.
fn maps(graph: &GraphProto, names: &[String]) -> Result<Vec<String>, ModelFault> {
    let all: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    if names.is_empty() {
        return all.first().map(|&name| vec![name.to_owned()]).ok_or(ModelFault::NoOutput);
    }
    for name in names {
        if !all.contains(&name.as_str()) {
            return Err(ModelFault::NoMap { name: name.clone(), outputs: first_outputs(graph) });
        }
    }
    Ok(names.to_vec())
}

/// The result of this name: an output, or what a node within makes.
fn named_output(graph: &GraphProto, name: &str) -> Result<String, ModelFault> {
    let outputs = graph.output.iter().map(|output| &output.name);
    let mut results = outputs.chain(graph.node.iter().flat_map(|node| &node.output));
    if !name.is_empty() && results.any(|result| result == name) {
        return Ok(name.to_owned());
    }
    Err(ModelFault::NoResult { name: name.to_owned(), outputs: first_outputs(graph) })
}

/// The names of the outputs, not more than a message has room for.
fn first_outputs(graph: &GraphProto) -> Vec<String> {
    graph.output.iter().take(MAX_OUTPUTS).map(|output| output.name.clone()).collect()
}

/// What `tensors` depend on, by name, and themselves.
fn needed<'a>(graph: &'a GraphProto, tensors: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
    let makers: HashMap<&str, &NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
        .collect();
    let mut open: Vec<&str> = tensors.collect();
    let mut known: HashSet<&str> = open.iter().copied().collect();
    while let Some(name) = open.pop() {
        // What no node makes is given.
        let inputs = makers.get(name).into_iter().flat_map(|node| &node.input);
        open.extend(inputs.map(String::as_str).filter(|name| known.insert(name)));
    }
    known
}

/// The output that all others lead to: features, or logits before a softmax, are often outputs too.
fn last_output(graph: &GraphProto) -> Result<String, ModelFault> {
    let names: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    if let [name] = names[..] {
        return Ok(name.to_owned());
    }
    let leads_to = |last: &str| {
        let known = needed(graph, std::iter::once(last));
        names.iter().all(|name| known.contains(name))
            && names.iter().filter(|name| **name == last).count() == 1
    };
    // Each search is as long as the graph.
    let last = names.iter().filter(|_| names.len() <= MAX_OUTPUTS).find(|name| leads_to(name));
    let last = last.ok_or(ModelFault::Outputs(names.len()))?;
    log::info!(
        "of the network's {} outputs `{}` is taken, which the others lead to",
        names.len(),
        printable(last)
    );
    Ok((*last).to_owned())
}

/// The attribute of a `Constant` that holds integers.
pub(super) fn integers(values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        t: Some(integers_tensor("", values)),
        ..Default::default()
    }
}

/// A constant shape.
pub(super) fn integers_tensor(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// An attribute that is a number.
pub(super) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: value, ..Default::default() }
}

/// An attribute that is a list of numbers.
pub(super) fn integer_list(name: &str, values: &[i64]) -> AttributeProto {
    let kind = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), r#type: kind, ints: values.to_vec(), ..Default::default() }
}

/// The attribute of a `Constant` that holds real numbers.
pub(super) fn tensor(values: &Array<f32>) -> AttributeProto {
    AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor::to_proto("", values)),
        ..Default::default()
    }
}

/// A node that copies a tensor in another order of its dimensions.
pub(super) fn transpose(from: String, to: String, order: Vec<i64>) -> NodeProto {
    NodeProto {
        op_type: "Transpose".into(),
        input: vec![from],
        output: vec![to],
        attribute: vec![AttributeProto {
            name: "perm".into(),
            r#type: AttributeType::Ints as i32,
            ints: order,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The version of the standard operators.
fn operator_set(proto: &ModelProto) -> Result<i64, ModelFault> {
    let (first, last) = OPERATOR_SETS.into_inner();
    let version = proto.opset_import.iter().find(|o| is_standard(&o.domain)).map(|o| o.version);
    match version {
        Some(version) if OPERATOR_SETS.contains(&version) => Ok(version),
        Some(found) => Err(ModelFault::OperatorSet { found, first, last }),
        None if proto.graph.is_none() => Err(ModelFault::NoGraph),
        None => Err(ModelFault::NoOperatorSet),
    }
}

/// The type of an input of 8-bit numbers. An image of them is one of grey levels from here on, which
/// an int8 number is one of less 128.
pub(super) fn image_of_integers(input: &mut ValueInfoProto) -> Option<Width> {
    let Some(TypeValue::TensorType(tensor)) = input.r#type.as_mut()?.value.as_mut() else { return None };
    let width = Width::of(tensor.elem_type).filter(|&width| width != Width::Int32)?;
    tensor.elem_type = DataType::Uint8 as i32;
    Some(width)
}

/// The only input.
struct Image {
    name: String,
    shape: [usize; 3],
    layout: [Axis; 4],
    grey_levels: bool,
}

/// Reads the input. It is `[N, height, width, channels]` where only the last dimension can be the
/// channels of an image.
fn image(
    graph: &GraphProto,
    initialisers: &HashMap<String, usize>,
    outputs: &[String],
    size: Option<[usize; 2]>,
) -> Result<Image, ImageFault> {
    let mut inputs: Vec<_> = graph.input.iter().filter(|i| !initialisers.contains_key(&i.name)).collect();
    if inputs.len() > 1 {
        let needed = needed(graph, outputs.iter().map(String::as_str));
        inputs.retain(|input| needed.contains(input.name.as_str()));
    }
    let [input] = inputs.as_slice() else {
        return Err(ImageFault::Inputs(inputs.len()));
    };
    let name = input.name.clone();
    let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(ImageFault::NoTensor { name });
    };
    let grey_levels = tensor.elem_type == DataType::Uint8 as i32;
    if !grey_levels && !tensor::is_float(i64::from(tensor.elem_type)) {
        let found = DataType::try_from(tensor.elem_type).map_or("an unknown type", |t| t.as_str_name());
        return Err(ImageFault::Type { name, found });
    }
    let mut dims: Vec<Option<i64>> = tensor
        .shape
        .iter()
        .flat_map(|shape| &shape.dim)
        .map(|d| match d.value {
            // Some exporters write -1 for what is open.
            Some(DimensionValue::DimValue(value)) if value != -1 => Some(value),
            _ => None,
        })
        .collect();
    if let (Some([height, width]), [_, first, second, third]) = (size, dims.as_mut_slice()) {
        let (rows, columns) = if first.is_some() { (second, third) } else { (first, second) };
        rows.get_or_insert(height as i64);
        columns.get_or_insert(width as i64);
    }
    let &[_, Some(first), Some(second), Some(third)] = dims.as_slice() else {
        return Err(ImageFault::Dimensions { name, dims });
    };
    let is_colour = |size: i64| size == 1 || size == 3;
    let channels_last = is_colour(third) && !is_colour(first);
    let (shape, layout) =
        if channels_last { ([third, first, second], NHWC) } else { ([first, second, third], NCHW) };
    let shape = shape.map(|d| usize::try_from(d).unwrap_or(0));
    if shape.contains(&0) {
        return Err(ImageFault::Dimensions { name, dims });
    }
    match check_activation(&shape) {
        Ok(()) => Ok(Image { name, shape, layout, grey_levels }),
        Err(cause) => Err(ImageFault::Limit { name, cause }),
    }
}

/// The node with its float tensors in f32, and no cast to other floats. It has no name: names
/// need not be unique in ONNX, and tract takes the output's instead.
fn in_f32(mut node: NodeProto) -> NodeProto {
    node.name.clear();
    let is_cast = node.op_type == "Cast";
    for attribute in &mut node.attribute {
        if is_cast && attribute.name == "to" && tensor::is_float(attribute.i) {
            attribute.i = i64::from(DataType::Float as i32);
        }
        if let Some(tensor) = attribute.t.as_mut().filter(|t| tensor::is_other_float(t)) {
            // Unreadable ones were refused before.
            if let Ok(Constant::Float(array)) = tensor::read(tensor) {
                *tensor = tensor::to_proto(&tensor.name, &array);
            }
        }
    }
    node
}

fn float_input(name: &str, shape: [usize; 3]) -> ValueInfoProto {
    let dimension = |d: usize| tensor_shape_proto::Dimension {
        value: Some(DimensionValue::DimValue(d as i64)),
        ..Default::default()
    };
    let dim = [1, shape[0], shape[1], shape[2]].map(dimension).to_vec();
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(type_proto::Tensor {
                elem_type: DataType::Float as i32,
                shape: Some(TensorShapeProto { dim }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}
