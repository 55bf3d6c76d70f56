//! ONNX nodes to elementary operations on `[channels, height, width]` tensors.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

use super::constant::{self, Constant};
use super::shape::{Array, normalise_axes};
use super::{ImportError, MAX_DIMENSION, MAX_WEIGHTS, OPERATOR_SETS, check_activation, elements, printable};

/// Most weights of the 0/1 matrix that a shortcut with channel padding becomes.
const MAX_SELECTION: usize = 1 << 24;

/// An elementary operation: what is left when constants, shapes and padding are resolved.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// Indices of operations before this one.
    pub(super) inputs: Vec<usize>,
    /// The ONNX node's printable name.
    pub(super) name: String,
    /// The ONNX operator.
    pub(super) operator: String,
    /// The ONNX tensor that holds the result.
    pub(super) tensor: String,
    /// `[channels, height, width]`.
    pub(super) shape: [usize; 3],
}

/// What an elementary operation computes.
#[derive(Debug)]
pub(super) enum Kind {
    Input,
    /// Also a fully connected layer: a 1x1 convolution of a 1x1 image.
    Convolution {
        weights: Vec<f32>,
        bias: Vec<f32>,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
        groups: usize,
    },
    /// `scale[c] * x + offset[c]`.
    Affine {
        scale: Vec<f64>,
        offset: Vec<f64>,
    },
    Relu,
    Add,
    MaxPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
    },
    GlobalAverage,
    /// Every stride-th position, with zero channels before and after.
    Select {
        stride: [usize; 2],
        before: usize,
        after: usize,
    },
}

/// The network as elementary operations, in topological order.
pub(super) struct Elementary {
    pub(super) name: String,
    pub(super) operations: Vec<Operation>,
    /// Index of the operation whose result is the network's output.
    pub(super) output: usize,
    /// What [`super::Imported::proto`] describes, but for its output.
    pub(super) proto: ModelProto,
}

/// What an ONNX tensor is at import.
#[derive(Debug, Clone)]
enum Value {
    Float(Array<f32>),
    Integer(Array<Option<i64>>),
    /// Computed from shapes in a way that is not understood; the operator that did it.
    Unresolved(String),
    Data(Data),
    /// Softmax of the operation's result: only good as the network's output.
    Probabilities(usize),
}

/// A view of an operation's result.
#[derive(Debug, Clone, Copy)]
struct Data {
    operation: usize,
    /// Zeros around it that are yet to be folded, `[top, left, bottom, right]`.
    padding: [usize; 4],
    /// `[batch, channels]` instead of `[batch, channels, 1, 1]`.
    flat: bool,
}

/// Reads the nodes that the output depends on.
pub(super) fn elementary(mut proto: ModelProto, path: &Path) -> Result<Elementary, ImportError> {
    let refuse = |cause: String| ImportError::File { path: path.into(), cause };
    let opset = operator_set(&proto).map_err(refuse)?;
    if let Some(function) = proto.functions.first() {
        let name = printable(function.name.as_deref().unwrap_or(""));
        return Err(refuse(format!("it defines the function `{name}`; export the model without functions")));
    }
    let mut graph = proto.graph.take().ok_or_else(|| refuse("not an ONNX file: it holds no graph".into()))?;
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |v| &v.name);
        let cause = format!("the initialiser `{}` is sparse; export it as a dense tensor", printable(name));
        return Err(refuse(cause));
    }
    let mut initialisers = HashMap::new();
    for (index, tensor) in graph.initializer.iter().enumerate() {
        if initialisers.insert(tensor.name.clone(), index).is_some() {
            let cause = format!("two initialisers have the name `{}`", printable(&tensor.name));
            return Err(refuse(cause));
        }
    }
    let (input, shape) = input(&graph, &initialisers).map_err(refuse)?;
    let [output] = graph.output.as_slice() else {
        let cause =
            format!("the network has {} outputs; export it with the logits alone", graph.output.len());
        return Err(refuse(cause));
    };
    let output = output.name.clone();
    let order = order(&graph, &initialisers, &input, &output, path)?;

    let mut consumers: HashMap<String, Vec<String>> = HashMap::new();
    for &index in &order {
        for name in &graph.node[index].input {
            consumers.entry(name.clone()).or_default().push(graph.node[index].op_type.clone());
        }
    }
    let mut importer = Importer {
        opset,
        initialisers,
        tensors: std::mem::take(&mut graph.initializer),
        folder: path.parent().unwrap_or(Path::new("")),
        external: 0,
        weights: 0,
        values: HashMap::new(),
        used: HashSet::new(),
        operations: Vec::new(),
        consumers,
        output: output.clone(),
    };
    importer.operations.push(Operation {
        kind: Kind::Input,
        inputs: vec![],
        name: printable(&input),
        operator: "input".into(),
        tensor: input.clone(),
        shape,
    });
    importer.values.insert(input.clone(), Value::Data(Data { operation: 0, padding: [0; 4], flat: false }));
    for &index in &order {
        let node = &graph.node[index];
        importer.node(node).map_err(|cause| node_error(path, node, cause))?;
    }
    let result = match importer.values.get(&output) {
        Some(Value::Data(data)) if data.padding == [0; 4] => data.operation,
        Some(Value::Probabilities(operation)) => *operation,
        _ => {
            let cause = format!("the output `{}` is no result of the network", printable(&output));
            return Err(refuse(cause));
        }
    };

    let name = if graph.name.is_empty() {
        path.file_stem().map_or("network".into(), |stem| stem.to_string_lossy().into_owned())
    } else {
        graph.name.clone()
    };
    let mut used: Vec<usize> = importer.used.iter().copied().collect();
    used.sort_unstable();
    let mut tensors: Vec<Option<TensorProto>> = importer.tensors.into_iter().map(Some).collect();
    let initializer = used.into_iter().filter_map(|index| tensors[index].take()).collect();
    let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
    let node = order.iter().filter_map(|&index| nodes[index].take()).map(in_f32).collect();
    let proto = ModelProto {
        ir_version: proto.ir_version,
        opset_import: vec![tract_onnx::pb::OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(GraphProto {
            name: graph.name,
            node,
            initializer,
            input: vec![float_input(&input, shape)],
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(Elementary { name, operations: importer.operations, output: result, proto })
}

/// The node with its float tensors in f32, and no cast to other floats. It has no name: names
/// need not be unique in ONNX, and tract takes the output's instead.
fn in_f32(mut node: NodeProto) -> NodeProto {
    node.name.clear();
    let is_cast = node.op_type == "Cast";
    for attribute in &mut node.attribute {
        if is_cast && attribute.name == "to" && is_float(attribute.i) {
            attribute.i = i64::from(DataType::Float as i32);
        }
        if let Some(tensor) = attribute.t.as_mut().filter(|t| constant::is_other_float(t)) {
            // Unreadable ones were refused before.
            if let Ok(Constant::Float(array)) = constant::read(tensor) {
                *tensor = constant::to_proto(&tensor.name, &array);
            }
        }
    }
    node
}

fn is_float(data_type: i64) -> bool {
    let float = [DataType::Float, DataType::Float16, DataType::Bfloat16, DataType::Double];
    float.iter().any(|&f| i64::from(f as i32) == data_type)
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

fn node_name(node: &NodeProto) -> String {
    let output = node.output.iter().find(|o| !o.is_empty());
    printable(if node.name.is_empty() { output.map_or("(unnamed)", |o| o) } else { &node.name })
}

fn node_error(path: &Path, node: &NodeProto, cause: String) -> ImportError {
    let domain = if standard(&node.domain) { String::new() } else { format!("{}.", node.domain) };
    ImportError::Node {
        path: path.into(),
        node: node_name(node),
        operator: printable(&format!("{domain}{}", node.op_type)),
        cause,
    }
}

fn standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The version of the standard operators.
fn operator_set(proto: &ModelProto) -> Result<i64, String> {
    let (first, last) = OPERATOR_SETS.into_inner();
    let version = proto.opset_import.iter().find(|o| standard(&o.domain)).map(|o| o.version);
    match version {
        Some(version) if OPERATOR_SETS.contains(&version) => Ok(version),
        Some(version) => {
            Err(format!("ONNX operator set {version} is outside of {first} to {last}; export with opset 13"))
        }
        None if proto.graph.is_none() => Err("not an ONNX file: it holds no graph".into()),
        None => Err("it names no ONNX operator set; export it again with opset 13".into()),
    }
}

/// The name and `[channels, height, width]` of the only input.
fn input(graph: &GraphProto, initialisers: &HashMap<String, usize>) -> Result<(String, [usize; 3]), String> {
    let inputs: Vec<_> = graph.input.iter().filter(|i| !initialisers.contains_key(&i.name)).collect();
    let [input] = inputs.as_slice() else {
        return Err(format!("the network has {} inputs; only one image is supported", inputs.len()));
    };
    let name = printable(&input.name);
    let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(format!("the input `{name}` is no tensor; export with one image as input"));
    };
    if !is_float(i64::from(tensor.elem_type)) {
        let found = DataType::try_from(tensor.elem_type).map_or("an unknown type", |t| t.as_str_name());
        return Err(format!("the input `{name}` has the type {found}; export the model with an f32 input"));
    }
    let dims: Vec<Option<i64>> = tensor
        .shape
        .iter()
        .flat_map(|shape| &shape.dim)
        .map(|d| match d.value {
            Some(DimensionValue::DimValue(value)) => Some(value),
            _ => None,
        })
        .collect();
    let remedy = "export it as [N, channels, height, width] with fixed channels, height and width";
    let &[_, Some(c), Some(h), Some(w)] = dims.as_slice() else {
        return Err(format!("the input `{name}` has the dimensions {}; {remedy}", shown(&dims)));
    };
    let shape = [c, h, w].map(|d| usize::try_from(d).unwrap_or(0));
    if shape.contains(&0) {
        return Err(format!("the input `{name}` has the dimensions {}; {remedy}", shown(&dims)));
    }
    check_activation(&shape).map_err(|cause| format!("the input `{name}`: {cause}; {remedy}"))?;
    Ok((input.name.clone(), shape))
}

fn shown(dims: &[Option<i64>]) -> String {
    let dims: Vec<String> = dims.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

/// The nodes that the output depends on, each after its inputs, otherwise as in the file.
fn order(
    graph: &GraphProto,
    initialisers: &HashMap<String, usize>,
    input: &str,
    output: &str,
    path: &Path,
) -> Result<Vec<usize>, ImportError> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            let taken = producers.insert(name, index).is_some();
            if taken || initialisers.contains_key(name) || name == input {
                let cause = format!("its output `{}` exists twice; the file is damaged", printable(name));
                return Err(node_error(path, node, cause));
            }
        }
    }
    let inputs = |index: usize| graph.node[index].input.iter().filter(|name| !name.is_empty());

    let Some(&last) = producers.get(output) else {
        let cause = format!("no node makes the output `{}`; the file is damaged", printable(output));
        return Err(ImportError::File { path: path.into(), cause });
    };
    let mut live = vec![false; graph.node.len()];
    let mut waiting = vec![0usize; graph.node.len()];
    let mut dependants: Vec<Vec<usize>> = vec![vec![]; graph.node.len()];
    let mut stack = vec![last];
    live[last] = true;
    while let Some(index) = stack.pop() {
        for name in inputs(index) {
            if let Some(&producer) = producers.get(name.as_str()) {
                dependants[producer].push(index);
                waiting[index] += 1;
                if !live[producer] {
                    live[producer] = true;
                    stack.push(producer);
                }
            } else if !initialisers.contains_key(name) && name != input {
                let cause = format!(
                    "its input `{}` is neither an initialiser nor made by a node; export the model with its weights",
                    printable(name)
                );
                return Err(node_error(path, &graph.node[index], cause));
            }
        }
    }
    let mut ready: std::collections::BTreeSet<usize> =
        (0..graph.node.len()).filter(|&i| live[i] && waiting[i] == 0).collect();
    let mut order = Vec::new();
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &next in &dependants[index] {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                ready.insert(next);
            }
        }
    }
    // From a node that waits for ever, its waiting producers lead into the cycle.
    if let Some(mut at) = (0..graph.node.len()).find(|&i| live[i] && waiting[i] > 0) {
        let mut seen = HashSet::new();
        while seen.insert(at) {
            let blocked =
                inputs(at).filter_map(|name| producers.get(name.as_str())).find(|&&p| waiting[p] > 0);
            at = blocked.copied().unwrap_or(at);
        }
        let cause = "it depends on its own output (a cycle); the file is damaged".into();
        return Err(node_error(path, &graph.node[at], cause));
    }
    Ok(order)
}

struct Importer<'a> {
    opset: i64,
    /// Index into `tensors` by name.
    initialisers: HashMap<String, usize>,
    tensors: Vec<TensorProto>,
    /// Where external data is.
    folder: &'a Path,
    /// Bytes of external data read so far.
    external: u64,
    /// Weights and other constants of the nodes so far.
    weights: usize,
    /// What nodes made so far.
    values: HashMap<String, Value>,
    /// Initialisers that were read.
    used: HashSet<usize>,
    operations: Vec<Operation>,
    /// Operators that consume a tensor.
    consumers: HashMap<String, Vec<String>>,
    /// The network's output.
    output: String,
}

/// Inputs of a node by position.
type Outcome = Result<Value, String>;

impl Importer<'_> {
    fn node(&mut self, node: &NodeProto) -> Result<(), String> {
        if let Some(attribute) = node.attribute.iter().find(|a| a.g.is_some() || !a.graphs.is_empty()) {
            return Err(format!(
                "its attribute `{}` holds a subgraph; control flow is not supported, export a plain network",
                printable(&attribute.name)
            ));
        }
        if node.op_type.starts_with("QLinear")
            || matches!(
                node.op_type.as_str(),
                "QuantizeLinear"
                    | "DequantizeLinear"
                    | "DynamicQuantizeLinear"
                    | "ConvInteger"
                    | "MatMulInteger"
            )
        {
            return Err("the file is already quantised; export the f32 model".into());
        }
        if !standard(&node.domain) {
            return Err(format!(
                "operators of the domain `{}` are not supported; export with standard ONNX operators, without a runtime's own fusions",
                printable(&node.domain)
            ));
        }
        let value = self.value(node)?;
        let output = node.output.first().filter(|o| !o.is_empty()).ok_or("it has no output")?;
        let output = output.clone();
        if node.output.iter().skip(1).any(|o| self.consumers.contains_key(o) || *o == self.output) {
            return Err("its second output is used; only the first is supported, export for inference".into());
        }
        self.values.insert(output, value);
        Ok(())
    }

    fn value(&mut self, node: &NodeProto) -> Outcome {
        let attributes = Attributes { node, read: RefCell::default() };
        if let Some(value) = self.constants(node, &attributes)? {
            return Ok(value);
        }
        let value = match node.op_type.as_str() {
            "Conv" => self.convolution(node, &attributes),
            "BatchNormalization" => self.batch_normalisation(node, &attributes),
            "Relu" => self.relu(node),
            "Clip" => self.clip(node, &attributes),
            "MaxPool" => self.max_pool(node, &attributes),
            "AveragePool" => self.average_pool(node, &attributes),
            "GlobalAveragePool" => {
                let data = self.plain(node, 0)?;
                self.global_average(node, data, false)
            }
            "ReduceMean" => self.reduce_mean(node, &attributes),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            "Sum" if node.input.len() == 2 => self.arithmetic(node),
            "Sum" => {
                Err(format!("it adds {} tensors; two are supported, export with Add", node.input.len()))
            }
            "Flatten" => self.flatten(node, &attributes),
            "Reshape" => self.reshape(node, &attributes),
            "Squeeze" | "Unsqueeze" => self.squeeze(node, &attributes),
            "Gemm" => self.gemm(node, &attributes),
            "MatMul" => self.mat_mul(node),
            "Identity" => self.input(node, 0),
            "Dropout" => self.dropout(node, &attributes),
            "Cast" => self.cast(node, &attributes),
            "Pad" => self.pad(node, &attributes),
            "Slice" => self.slice(node, &attributes),
            "Shape" => self.shape(node, &attributes),
            "Softmax" | "LogSoftmax" => self.softmax(node, &attributes),
            "Transpose" => Err(
                "transposing activations is not supported; export the model in NCHW layout, without transpositions"
                    .into(),
            ),
            _ => Err("the operator is not supported: int8 residual networks are made of convolutions, batch normalisation, ReLU, additions, pooling and a fully connected layer; replace it in the model before the export"
                .into()),
        }?;
        attributes.finish()?;
        Ok(value)
    }

    /// A node's input that must be there.
    fn input(&mut self, node: &NodeProto, position: usize) -> Outcome {
        self.optional(node, position)?.ok_or_else(|| format!("its input {position} is missing"))
    }

    /// A node's input, if it has one at this position.
    fn optional(&mut self, node: &NodeProto, position: usize) -> Result<Option<Value>, String> {
        let Some(name) = node.input.get(position).filter(|name| !name.is_empty()) else { return Ok(None) };
        if let Some(value) = self.values.get(name) {
            let value = value.clone();
            match &value {
                Value::Float(array) => self.charge(array.data.len())?,
                Value::Integer(array) => self.charge(array.data.len())?,
                _ => {}
            }
            return Ok(Some(value));
        }
        let Some(&index) = self.initialisers.get(name) else {
            return Err(format!("its input `{}` does not exist", printable(name)));
        };
        self.used.insert(index);
        let named = |cause: String| format!("the initialiser `{}` {cause}", printable(name));
        let tensor = &mut self.tensors[index];
        if constant::is_external(tensor) {
            constant::load_external(tensor, self.folder, &mut self.external).map_err(named)?;
        }
        let constant = constant::read(tensor).map_err(named)?;
        let count = match &constant {
            Constant::Float(array) => array.data.len(),
            Constant::Integer(array) => array.data.len(),
        };
        let value = match constant {
            Constant::Float(array) => {
                if constant::is_other_float(tensor) {
                    *tensor = constant::to_proto(name, &array);
                }
                Value::Float(array)
            }
            Constant::Integer(array) => Value::Integer(array),
        };
        self.charge(count)?;
        Ok(Some(value))
    }

    /// Counts constants that a node takes: a small file can name large ones often.
    fn charge(&mut self, count: usize) -> Result<(), String> {
        self.weights = self.weights.saturating_add(count);
        if self.weights > MAX_WEIGHTS {
            return Err(format!(
                "with it the network has more than {MAX_WEIGHTS} weights; use a smaller one"
            ));
        }
        Ok(())
    }

    /// An input that is a result of the network, without padding around it.
    fn plain(&mut self, node: &NodeProto, position: usize) -> Result<Data, String> {
        let data = self.data(node, position)?;
        if data.padding != [0; 4] {
            return Err("it follows a Pad, which can only be folded into a convolution".into());
        }
        Ok(data)
    }

    /// An input that is a result of the network.
    fn data(&mut self, node: &NodeProto, position: usize) -> Result<Data, String> {
        match self.input(node, position)? {
            Value::Data(data) => Ok(data),
            Value::Probabilities(_) => Err("it follows a Softmax, which must be the last node".into()),
            Value::Unresolved(operator) => Err(format!(
                "its input `{}` is computed from shapes by {operator}; export with fixed shapes and constant folding",
                printable(&node.input[position])
            )),
            Value::Float(_) | Value::Integer(_) => Err(format!(
                "its input `{}` is a constant, not a result of the network",
                printable(&node.input[position])
            )),
        }
    }

    /// An input that must hold finite constants, or `None` where it is absent.
    fn weights(&mut self, node: &NodeProto, position: usize) -> Result<Option<Array<f32>>, String> {
        let name = node.input.get(position).map_or(String::new(), |name| printable(name));
        match self.optional(node, position)? {
            None => Ok(None),
            Some(Value::Float(array)) => {
                if let Some(index) = array.data.iter().position(|v| !v.is_finite()) {
                    return Err(format!(
                        "the initialiser `{name}` holds {} at position {index}; weights must be finite, train or export the model again",
                        array.data[index]
                    ));
                }
                Ok(Some(array))
            }
            Some(Value::Integer(_)) => Err(format!(
                "the initialiser `{name}` holds integers where weights are needed; export the f32 model"
            )),
            Some(_) => Err(format!(
                "its input `{name}` is computed while the network runs; weights must be constants, export for inference with constant folding"
            )),
        }
    }

    /// One weight per channel.
    fn per_channel(
        &mut self,
        node: &NodeProto,
        position: usize,
        channels: usize,
    ) -> Result<Vec<f32>, String> {
        let array =
            self.weights(node, position)?.ok_or_else(|| format!("its input {position} is missing"))?;
        if array.data.len() != channels || array.dims.len() > 1 {
            return Err(format!(
                "its input `{}` has the dimensions {:?} where [{channels}] is needed",
                printable(&node.input[position]),
                array.dims
            ));
        }
        Ok(array.data)
    }

    /// Integers that must be known, or `None` where the input is absent.
    fn integers(&mut self, node: &NodeProto, position: usize) -> Result<Option<Vec<i64>>, String> {
        let unknown = |name: &str| {
            format!(
                "its input `{}` is no constant; export with fixed shapes and constant folding",
                printable(name)
            )
        };
        match self.optional(node, position)? {
            None => Ok(None),
            Some(Value::Integer(array)) => {
                array.known().map(Some).ok_or_else(|| unknown(&node.input[position]))
            }
            Some(_) => Err(unknown(&node.input[position])),
        }
    }

    /// Integers from an attribute in older operator sets, from an input in newer ones.
    fn attribute_or_input(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
        name: &'static str,
        position: usize,
        input_since: i64,
    ) -> Result<Option<Vec<i64>>, String> {
        if self.opset < input_since { attributes.integers(name) } else { self.integers(node, position) }
    }

    fn push(
        &mut self,
        node: &NodeProto,
        kind: Kind,
        inputs: Vec<usize>,
        shape: [usize; 3],
    ) -> Result<Data, String> {
        check_activation(&shape)?;
        // Scale and offset in f64, of the operation or of the convolution that it becomes.
        self.charge(4 * shape[0])?;
        self.operations.push(Operation {
            kind,
            inputs,
            name: node_name(node),
            operator: printable(&node.op_type),
            tensor: node.output.first().cloned().unwrap_or_default(),
            shape,
        });
        Ok(Data { operation: self.operations.len() - 1, padding: [0; 4], flat: false })
    }

    /// As [`push`](Self::push), as the node's value, flat or an image.
    fn value_of(
        &mut self,
        node: &NodeProto,
        kind: Kind,
        inputs: Vec<usize>,
        shape: [usize; 3],
        flat: bool,
    ) -> Outcome {
        self.push(node, kind, inputs, shape).map(|data| Value::Data(Data { flat, ..data }))
    }

    fn shape_of(&self, data: Data) -> [usize; 3] {
        self.operations[data.operation].shape
    }

    /// The shape with the pending padding.
    fn padded(&self, data: Data) -> Result<[usize; 3], String> {
        let [c, h, w] = self.shape_of(data);
        let shape = [c, h + data.padding[0] + data.padding[2], w + data.padding[1] + data.padding[3]];
        check_activation(&shape).map(|()| shape)
    }

    /// Channels, height and width of an input that is an image, with pending padding.
    fn image(&mut self, node: &NodeProto) -> Result<(Data, [usize; 3]), String> {
        let data = self.data(node, 0)?;
        if data.flat {
            return Err("its input is flat, [batch, features], where an image is needed".into());
        }
        Ok((data, self.padded(data)?))
    }

    fn convolution(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let (data, [channels, height, width]) = self.image(node)?;
        let weights = self.weights(node, 1)?.ok_or("its weights are missing")?;
        let &[outputs, inputs_per_group, kernel_height, kernel_width] = weights.dims.as_slice() else {
            return Err(format!(
                "its weights have the dimensions {:?}; only two-dimensional convolutions are supported",
                weights.dims
            ));
        };
        let kernel = [kernel_height, kernel_width];
        if weights.data.is_empty() {
            return Err(format!("its weights are empty: {:?}", weights.dims));
        }
        let groups = attributes.integer("group")?.unwrap_or(1);
        let groups = usize::try_from(groups)
            .ok()
            .filter(|&g| {
                g > 0 && g.checked_mul(inputs_per_group) == Some(channels) && outputs.is_multiple_of(g)
            })
            .ok_or_else(|| {
                format!(
                    "weights {:?} in {groups} groups do not fit an input of {channels} channels",
                    weights.dims
                )
            })?;
        let window = Window::read(attributes, Some(kernel), [height, width])?;
        let bias = match self.optional(node, 2)? {
            Some(_) => self.per_channel(node, 2, outputs)?,
            None => vec![0.0; outputs],
        };
        let padding = std::array::from_fn(|i| window.padding[i] + data.padding[i]);
        let kind = Kind::Convolution {
            weights: weights.data,
            bias,
            kernel,
            stride: window.stride,
            padding,
            dilation: window.dilation,
            groups,
        };
        self.value_of(node, kind, vec![data.operation], [outputs, window.output[0], window.output[1]], false)
    }

    fn batch_normalisation(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.plain(node, 0)?;
        if attributes.integer("training_mode")?.unwrap_or(0) != 0 {
            return Err("it is in training mode; export the model in evaluation mode (`model.eval()`)".into());
        }
        if attributes.integer("spatial")?.unwrap_or(1) != 1 {
            return Err(
                "it normalises each position on its own (spatial=0); only spatial=1 is supported".into()
            );
        }
        attributes.ignore("momentum");
        attributes.ignore("is_test");
        let epsilon = f64::from(attributes.float("epsilon")?.unwrap_or(1e-5));
        let channels = self.shape_of(data)[0];
        let gamma = self.per_channel(node, 1, channels)?;
        let beta = self.per_channel(node, 2, channels)?;
        let mean = self.per_channel(node, 3, channels)?;
        let variance = self.per_channel(node, 4, channels)?;
        let mut scale = Vec::with_capacity(channels);
        let mut offset = Vec::with_capacity(channels);
        for channel in 0..channels {
            let divisor = (f64::from(variance[channel]) + epsilon).sqrt();
            if divisor.is_nan() || divisor <= 0.0 {
                return Err(format!(
                    "the variance of channel {channel} is {}, not positive",
                    variance[channel]
                ));
            }
            let factor = f64::from(gamma[channel]) / divisor;
            scale.push(factor);
            offset.push(f64::from(beta[channel]) - f64::from(mean[channel]) * factor);
        }
        self.affine(node, data, scale, offset)
    }

    fn affine(&mut self, node: &NodeProto, data: Data, scale: Vec<f64>, offset: Vec<f64>) -> Outcome {
        // Weights are f32 in the end.
        if scale.iter().chain(&offset).any(|&v| !(v as f32).is_finite()) {
            return Err("its scale or offset is not finite".into());
        }
        #[expect(clippy::float_cmp, reason = "only exactly nothing may be left out")]
        if scale.iter().all(|&s| s == 1.0) && offset.iter().all(|&o| o == 0.0) {
            return Ok(Value::Data(data));
        }
        let shape = self.shape_of(data);
        self.value_of(node, Kind::Affine { scale, offset }, vec![data.operation], shape, data.flat)
    }

    fn relu(&mut self, node: &NodeProto) -> Outcome {
        let data = self.plain(node, 0)?;
        if self.is_non_negative(data.operation) {
            return Ok(Value::Data(data));
        }
        let shape = self.shape_of(data);
        self.value_of(node, Kind::Relu, vec![data.operation], shape, data.flat)
    }

    /// Whether a `Relu` would change nothing.
    fn is_non_negative(&self, mut operation: usize) -> bool {
        loop {
            let Operation { kind, inputs, .. } = &self.operations[operation];
            match kind {
                Kind::Relu => return true,
                Kind::MaxPool { .. } | Kind::Select { .. } | Kind::GlobalAverage => operation = inputs[0],
                _ => return false,
            }
        }
    }

    fn clip(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let mut limit = |position, name| -> Result<Option<f32>, String> {
            if self.opset < 11 {
                return attributes.float(name);
            }
            match self.optional(node, position)? {
                None => Ok(None),
                Some(Value::Float(array)) => Ok(Some(array.scalar().ok_or("its limit is no single number")?)),
                Some(_) => Err("its limits are no constants; export with constant folding".into()),
            }
        };
        let (low, high) = (limit(1, "min")?, limit(2, "max")?);
        if low != Some(0.0) || high.is_some_and(|h| h < f32::MAX) {
            let shown = |v: Option<f32>| v.map_or("none".into(), |v| v.to_string());
            return Err(format!(
                "it limits to {} and {}; only a ReLU (0 and none) is supported, train the network with ReLU",
                shown(low),
                shown(high)
            ));
        }
        self.relu(node)
    }

    fn max_pool(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let (data, [channels, height, width]) = self.image(node)?;
        attributes.ignore("storage_order");
        let window = Window::read(attributes, None, [height, width])?;
        if window.dilation != [1, 1] {
            return Err(format!("its dilation is {:?}; only 1 is supported", window.dilation));
        }
        if data.padding != [0; 4] && !self.is_non_negative(data.operation) {
            return Err(
                "it follows a Pad with zeros, which are more than negative values; pad within the MaxPool"
                    .into(),
            );
        }
        let padding: [usize; 4] = std::array::from_fn(|i| window.padding[i] + data.padding[i]);
        // A window of nothing but padding has no maximum.
        if (0..4).any(|side| padding[side] >= window.kernel[side % 2]) {
            return Err(format!(
                "its padding {padding:?} is not smaller than its window {:?}",
                window.kernel
            ));
        }
        let kind = Kind::MaxPool { kernel: window.kernel, stride: window.stride, padding };
        self.value_of(node, kind, vec![data.operation], [channels, window.output[0], window.output[1]], false)
    }

    fn average_pool(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let (data, [channels, height, width]) = self.image(node)?;
        let counts_padding = attributes.integer("count_include_pad")?.unwrap_or(0) != 0;
        let window = Window::read(attributes, None, [height, width])?;
        if window.kernel == [height, width] && window.padding == [0; 4] && data.padding == [0; 4] {
            return self.global_average(node, data, false);
        }
        if (window.padding != [0; 4] && !counts_padding) || window.dilation != [1, 1] {
            return Err(
                "its window is neither the whole image nor the same everywhere; average without padding or count it"
                    .into(),
            );
        }
        // The same weight for each position of the window: a convolution per channel.
        let count = elements(&[channels, window.kernel[0], window.kernel[1]])?;
        self.charge(count)?;
        let area = count / channels;
        let kind = Kind::Convolution {
            weights: vec![1.0 / area as f32; area * channels],
            bias: vec![0.0; channels],
            kernel: window.kernel,
            stride: window.stride,
            padding: std::array::from_fn(|i| window.padding[i] + data.padding[i]),
            dilation: [1, 1],
            groups: channels,
        };
        self.value_of(node, kind, vec![data.operation], [channels, window.output[0], window.output[1]], false)
    }

    fn global_average(&mut self, node: &NodeProto, data: Data, flat: bool) -> Outcome {
        if data.flat {
            return Err("its input is flat, [batch, features], where an image is needed".into());
        }
        let channels = self.shape_of(data)[0];
        self.value_of(node, Kind::GlobalAverage, vec![data.operation], [channels, 1, 1], flat)
    }

    fn reduce_mean(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.plain(node, 0)?;
        let axes = self.attribute_or_input(node, attributes, "axes", 1, 18)?.unwrap_or_default();
        attributes.ignore("noop_with_empty_axes");
        let keep = attributes.integer("keepdims")?.unwrap_or(1) != 0;
        let mut normalised = normalise_axes(&axes, if data.flat { 2 } else { 4 })?;
        normalised.sort_unstable();
        if normalised != [2, 3] {
            return Err(format!(
                "it averages over the axes {axes:?}; only height and width, [2, 3], are supported"
            ));
        }
        self.global_average(node, data, !keep)
    }

    fn arithmetic(&mut self, node: &NodeProto) -> Outcome {
        let values = [self.input(node, 0)?, self.input(node, 1)?];
        match values {
            [Value::Data(_), Value::Data(_)] => {
                let (left, right) = (self.plain(node, 0)?, self.plain(node, 1)?);
                self.two_results(node, left, right)
            }
            [Value::Data(_), _] => {
                let data = self.plain(node, 0)?;
                self.with_constant(node, data, 1)
            }
            [_, Value::Data(_)] => {
                let data = self.plain(node, 1)?;
                self.with_constant(node, data, 0)
            }
            _ => Err("none of its inputs is a result of the network; export with constant folding".into()),
        }
    }

    /// Arithmetic of two results of the network: residual addition.
    fn two_results(&mut self, node: &NodeProto, left: Data, right: Data) -> Outcome {
        match node.op_type.as_str() {
            "Add" | "Sum" => {}
            "Mul" => {
                return Err(
                    "multiplying two results of the network (gates, squeeze-and-excitation) is not supported; use a network without it"
                        .into(),
                );
            }
            _ => {
                return Err("only the addition of two results of the network is supported".into());
            }
        }
        let (shape, other) = (self.shape_of(left), self.shape_of(right));
        if shape != other || left.flat != right.flat {
            return Err(format!("it adds {shape:?} and {other:?}; both must have the same shape"));
        }
        if left.operation == right.operation {
            return self.affine(node, left, vec![2.0; shape[0]], vec![0.0; shape[0]]);
        }
        self.value_of(node, Kind::Add, vec![left.operation, right.operation], shape, left.flat)
    }

    /// Arithmetic with a constant per channel; the constant is the input at `position`.
    fn with_constant(&mut self, node: &NodeProto, data: Data, position: usize) -> Outcome {
        let channels = self.shape_of(data)[0];
        let array = self.weights(node, position)?.ok_or("its constant is missing")?;
        // Right-aligned, all dimensions but the channels' are 1.
        let rank = if data.flat { 2 } else { 4 };
        let fits = array.dims.len() <= rank
            && array
                .dims
                .iter()
                .rev()
                .enumerate()
                .all(|(from_right, &d)| d == 1 || (from_right == rank - 2 && d == channels));
        if !fits {
            return Err(format!(
                "its constant `{}` has the dimensions {:?}; only one value per channel is supported",
                printable(&node.input[position]),
                array.dims
            ));
        }
        let constant: Vec<f64> = (0..channels)
            .map(|c| f64::from(if array.data.len() == 1 { array.data[0] } else { array.data[c] }))
            .collect();
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        match (node.op_type.as_str(), position) {
            ("Add" | "Sum", _) => self.affine(node, data, ones, constant),
            ("Sub", 1) => self.affine(node, data, ones, constant.iter().map(|c| -c).collect()),
            // tract 0.23.9 folds it into a convolution before with the wrong sign, so there would
            // be no reference.
            ("Sub", _) => {
                Err("subtracting a result of the network from a constant is not supported; multiply by -1 and add".into())
            }
            ("Mul", _) => self.affine(node, data, constant, zeros),
            ("Div", 1) => self.affine(node, data, constant.iter().map(|c| 1.0 / c).collect(), zeros),
            _ => Err("dividing by a result of the network is not supported".into()),
        }
    }

    /// The same data without its 1x1 positions.
    fn drop_positions(&self, data: Data) -> Outcome {
        let [c, h, w] = self.padded(data)?;
        if h * w != 1 || data.padding != [0; 4] {
            return Err(format!(
                "it flattens {c}x{h}x{w}; only 1x1 images can be flattened, average over all positions before"
            ));
        }
        Ok(Value::Data(Data { flat: true, ..data }))
    }

    fn flatten(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.data(node, 0)?;
        let axis = attributes.integer("axis")?.unwrap_or(1);
        let rank = if data.flat { 2 } else { 4 };
        if axis != 1 && axis != 1 - rank {
            return Err(format!("its axis is {axis}; only 1 is supported"));
        }
        self.drop_positions(data)
    }

    fn reshape(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.plain(node, 0)?;
        let keeps_zero = attributes.integer("allowzero")?.unwrap_or(0) != 0;
        let [c, h, w] = self.shape_of(data);
        let own: Vec<usize> = if data.flat { vec![1, c] } else { vec![1, c, h, w] };
        let target = match self.input(node, 1)? {
            Value::Integer(target) => target.data,
            Value::Unresolved(_) => vec![None, None],
            _ => return Err("its shape is no constant; export with fixed shapes and constant folding".into()),
        };
        let refuse = || {
            format!(
                "it reshapes {own:?} to {}; only [N, {c}] from a 1x1 image is supported, with a symbolic batch or batch 1",
                shown(&target)
            )
        };
        if target.iter().skip(1).any(Option::is_none) {
            // The shape depends on the batch in a way that is not understood. Before a fully
            // connected layer it can only be [N, channels].
            let output = node.output.first().map_or("", |o| o);
            let next = self.consumers.get(output);
            let connected = next.is_some_and(|n| n.iter().all(|op| op == "Gemm" || op == "MatMul"));
            return if connected && target.len() == 2 { self.drop_positions(data) } else { Err(refuse()) };
        }
        let mut dims = Vec::new();
        for (axis, &value) in target.iter().enumerate() {
            dims.push(match value {
                // Only the batch can be unknown here.
                None => 1,
                Some(0) if keeps_zero => return Err(refuse()),
                Some(0) => *own.get(axis).ok_or_else(refuse)? as i64,
                Some(value) => value,
            });
        }
        let result = Array { dims: own.clone(), data: vec![(); c * h * w] }.reshape(&dims);
        let result = result.map_err(|_| refuse())?.dims;
        if result == [1, c, h, w] {
            Ok(Value::Data(Data { flat: false, ..data }))
        } else if result == [1, c] {
            self.drop_positions(data)
        } else {
            Err(refuse())
        }
    }

    fn squeeze(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.plain(node, 0)?;
        let axes = self.attribute_or_input(node, attributes, "axes", 1, 13)?.unwrap_or_default();
        let flat = node.op_type == "Squeeze";
        let mut normalised = normalise_axes(&axes, 4)?;
        normalised.sort_unstable();
        if normalised != [2, 3] || data.flat == flat {
            return Err(format!("its axes are {axes:?}; only height and width, [2, 3], are supported"));
        }
        if flat { self.drop_positions(data) } else { Ok(Value::Data(Data { flat, ..data })) }
    }

    /// A fully connected layer with weights `[output][input]`.
    fn linear(
        &mut self,
        node: &NodeProto,
        data: Data,
        weights: Vec<f32>,
        bias: Vec<f32>,
        outputs: usize,
    ) -> Outcome {
        let kind = Kind::Convolution {
            weights,
            bias,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
        };
        self.value_of(node, kind, vec![data.operation], [outputs, 1, 1], true)
    }

    /// The flat input of a fully connected layer.
    fn features(&mut self, node: &NodeProto) -> Result<(Data, usize), String> {
        let data = self.plain(node, 0)?;
        let shape = self.shape_of(data);
        if !data.flat {
            return Err(format!("its input is an image {shape:?}; flatten it before"));
        }
        Ok((data, shape[0]))
    }

    fn gemm(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let (data, features) = self.features(node)?;
        if attributes.integer("transA")?.unwrap_or(0) != 0 {
            return Err("it transposes its input (transA), which is not supported".into());
        }
        let transposed = attributes.integer("transB")?.unwrap_or(0) != 0;
        let alpha = attributes.float("alpha")?.unwrap_or(1.0);
        let beta = attributes.float("beta")?.unwrap_or(1.0);
        attributes.ignore("broadcast");
        let matrix = self.weights(node, 1)?.ok_or("its weights are missing")?;
        let (mut weights, outputs) = connected(matrix, features, transposed)?;
        for weight in &mut weights {
            *weight *= alpha;
        }
        let bias = match self.weights(node, 2)? {
            None => vec![0.0; outputs],
            Some(array) if array.data.len() == 1 => vec![array.data[0] * beta; outputs],
            Some(array) if array.dims == [outputs] || array.dims == [1, outputs] => {
                array.data.iter().map(|b| b * beta).collect()
            }
            Some(array) => {
                return Err(format!(
                    "its bias has the dimensions {:?} where [{outputs}] is needed",
                    array.dims
                ));
            }
        };
        self.linear(node, data, weights, bias, outputs)
    }

    fn mat_mul(&mut self, node: &NodeProto) -> Outcome {
        let (data, features) = self.features(node)?;
        let matrix = self.weights(node, 1)?.ok_or("its weights are missing")?;
        let (weights, outputs) = connected(matrix, features, false)?;
        self.linear(node, data, weights, vec![0.0; outputs], outputs)
    }

    fn dropout(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        attributes.ignore("ratio");
        attributes.ignore("seed");
        attributes.ignore("is_test");
        let training = self.integers(node, 2)?.unwrap_or_default();
        if training.iter().any(|&t| t != 0) {
            return Err("it is in training mode; export the model in evaluation mode (`model.eval()`)".into());
        }
        self.input(node, 0)
    }

    fn cast(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let to = attributes.integer("to")?.unwrap_or(0);
        attributes.ignore("saturate");
        attributes.ignore("round_mode");
        if !is_float(to) {
            return Err(format!(
                "it converts a result of the network to type {to}; only floats are supported"
            ));
        }
        self.data(node, 0).map(Value::Data)
    }

    fn pad(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.data(node, 0)?;
        let mode = attributes.string("mode")?.unwrap_or_else(|| "constant".into());
        if mode != "constant" {
            return Err(format!("its mode is `{}`; only constant zeros are supported", printable(&mode)));
        }
        let value = if self.opset < 11 {
            attributes.float("value")?
        } else {
            match self.optional(node, 2)? {
                None => None,
                Some(Value::Float(array)) => Some(array.scalar().ok_or("its value is no single number")?),
                Some(_) => return Err("its value is no constant; export with constant folding".into()),
            }
        };
        if value.is_some_and(|v| v != 0.0) {
            return Err(format!("it pads with {}; only zeros are supported", value.unwrap_or_default()));
        }
        let pads =
            self.attribute_or_input(node, attributes, "pads", 1, 11)?.ok_or("its padding is missing")?;
        let axes = self.integers(node, 3)?.unwrap_or_else(|| vec![0, 1, 2, 3]);
        let axes = normalise_axes(&axes, if data.flat { 2 } else { 4 })?;
        if pads.len() != axes.len() * 2 {
            return Err(format!("its padding {pads:?} does not fit {} axes", axes.len()));
        }
        let mut sides = [[0usize; 2]; 4];
        for (position, &axis) in axes.iter().enumerate() {
            for side in 0..2 {
                sides[axis][side] = usize::try_from(pads[position + side * axes.len()])
                    .ok()
                    .filter(|&p| p <= MAX_DIMENSION)
                    .ok_or_else(|| format!("its padding {pads:?} is out of range"))?;
            }
        }
        let [batch, channels, vertical, horizontal] = sides;
        if batch != [0, 0] {
            return Err(format!("it pads the batch: {pads:?}"));
        }
        let mut data = data;
        if channels != [0, 0] {
            data = self.select(node, data, [1, 1], channels)?;
        }
        for (side, amount) in [vertical[0], horizontal[0], vertical[1], horizontal[1]].into_iter().enumerate()
        {
            data.padding[side] += amount;
        }
        self.padded(data)?;
        Ok(Value::Data(data))
    }

    /// Every stride-th position of the image, and zero channels around its channels.
    fn select(
        &mut self,
        node: &NodeProto,
        data: Data,
        stride: [usize; 2],
        channels: [usize; 2],
    ) -> Result<Data, String> {
        if data.padding != [0; 4] || data.flat {
            return Err("only an image without padding can be subsampled or get channels".into());
        }
        let [c, h, w] = self.shape_of(data);
        let shape = [c + channels[0] + channels[1], h.div_ceil(stride[0]), w.div_ceil(stride[1])];
        let before = &self.operations[data.operation];
        // Two selections in a row are one from the first one's input.
        let (kind, source) = match before.kind {
            Kind::Select { stride: inner, before: first, after } => (
                Kind::Select {
                    stride: [inner[0] * stride[0], inner[1] * stride[1]],
                    before: first + channels[0],
                    after: after + channels[1],
                },
                before.inputs[0],
            ),
            _ => (Kind::Select { stride, before: channels[0], after: channels[1] }, data.operation),
        };
        let inputs = self.operations[source].shape[0];
        if inputs != shape[0] && inputs * shape[0] > MAX_SELECTION {
            return Err(format!("widening {inputs} channels to {} takes too many weights", shape[0]));
        }
        self.charge(if inputs == shape[0] { 0 } else { inputs * shape[0] })?;
        self.push(node, kind, vec![source], shape)
    }

    fn slice(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.plain(node, 0)?;
        let read = self.slice_arguments(node, attributes)?;
        let [c, h, w] = self.shape_of(data);
        let shape = [1, c, h, w];
        let rank = if data.flat { 2 } else { 4 };
        let axes = normalise_axes(&read.axes, rank)?;
        let mut stride = [1, 1];
        for (position, &axis) in axes.iter().enumerate() {
            let (start, end, step) = (read.starts[position], read.ends[position], read.steps[position]);
            let size = shape[axis] as i64;
            let step_fits = if axis < 2 { step == 1 } else { (1..=MAX_DIMENSION as i64).contains(&step) };
            // The batch's size is unknown: only a slice to the far end keeps all of it.
            let whole = end >= if axis == 0 { i64::from(i32::MAX) } else { size };
            if (start != 0 && start.saturating_add(size) > 0) || start > 0 || !whole || !step_fits {
                return Err(format!(
                    "it takes {start}..{end} in steps of {step} from axis {axis} of {shape:?}; only every n-th row and column from the first on is supported"
                ));
            }
            if axis >= 2 {
                stride[axis - 2] = step as usize;
            }
        }
        if stride != [1, 1] {
            return self.select(node, data, stride, [0, 0]).map(Value::Data);
        }
        Ok(Value::Data(data))
    }

    fn slice_arguments(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<SliceArguments, String> {
        let starts =
            self.attribute_or_input(node, attributes, "starts", 1, 10)?.ok_or("its starts are missing")?;
        let ends = self.attribute_or_input(node, attributes, "ends", 2, 10)?.ok_or("its ends are missing")?;
        let axes = self.attribute_or_input(node, attributes, "axes", 3, 10)?;
        let steps = if self.opset < 10 { None } else { self.integers(node, 4)? };
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("its starts, ends, axes and steps differ in number".into());
        }
        Ok(SliceArguments { starts, ends, axes, steps })
    }

    fn shape(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.data(node, 0)?;
        let [c, h, w] = self.padded(data)?.map(|d| Some(d as i64));
        let shape = Array::vector(if data.flat { vec![None, c] } else { vec![None, c, h, w] });
        let start = attributes.integer("start")?.unwrap_or(0);
        let end = attributes.integer("end")?.unwrap_or(i64::MAX);
        shape.slice(start, end, 1).map(Value::Integer).ok_or_else(|| "its range is invalid".into())
    }

    fn softmax(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
        let data = self.plain(node, 0)?;
        let axis = attributes.integer("axis")?.unwrap_or(if self.opset < 13 { 1 } else { -1 });
        let [_, h, w] = self.shape_of(data);
        if (axis != 1 && !(axis == -1 && data.flat)) || h * w != 1 {
            return Err(format!("its axis is {axis}; only the classes' axis, 1, is supported"));
        }
        if node.output.first() != Some(&self.output) {
            return Err("it is not the last node; Softmax is only supported at the end".into());
        }
        log::info!("node `{}` ({}) is left out: logits come before softmax", node_name(node), node.op_type);
        Ok(Value::Probabilities(data.operation))
    }

    /// Nodes that compute constants and shapes: `None` where the node works on data.
    fn constants(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Option<Value>, String> {
        if node.op_type == "Constant" {
            let value = attributes.constant()?;
            attributes.finish()?;
            return Ok(Some(value));
        }
        let names: Vec<&String> = node.input.iter().filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Ok(None);
        }
        // Initialisers are constants; look at the rest without reading weights.
        let on_data =
            |name: &String| matches!(self.values.get(name), Some(Value::Data(_) | Value::Probabilities(_)));
        if names.iter().any(|name| on_data(name)) {
            return Ok(None);
        }
        let unresolved = Value::Unresolved(printable(&node.op_type));
        let mut inputs = Vec::new();
        for position in 0..node.input.len() {
            inputs.push(self.optional(node, position)?);
        }
        let value = match inputs.into_iter().next().flatten() {
            Some(Value::Float(array)) => self.on_floats(node, attributes, array)?.map(Value::Float),
            Some(Value::Integer(array)) => self.on_integers(node, attributes, array)?,
            _ => None,
        };
        Ok(Some(value.unwrap_or(unresolved)))
    }

    /// What exporters leave of constant folding on weights.
    fn on_floats(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
        array: Array<f32>,
    ) -> Result<Option<Array<f32>>, String> {
        Ok(match node.op_type.as_str() {
            "Identity" => Some(array),
            "Cast" if is_float(attributes.integer("to")?.unwrap_or(0)) => Some(array),
            "Transpose" => Some(array.transpose(attributes.integers("perm")?.as_deref())?),
            "Unsqueeze" => {
                let axes = self.attribute_or_input(node, attributes, "axes", 1, 13)?;
                Some(array.unsqueeze(&axes.ok_or("its axes are missing")?)?)
            }
            "Squeeze" => {
                let axes = self.attribute_or_input(node, attributes, "axes", 1, 13)?;
                Some(array.squeeze(axes.as_deref())?)
            }
            "Reshape" => Some(array.reshape(&self.integers(node, 1)?.ok_or("its shape is missing")?)?),
            _ => None,
        })
    }

    /// Shape computations.
    fn on_integers(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
        array: Array<Option<i64>>,
    ) -> Result<Option<Value>, String> {
        let result = match node.op_type.as_str() {
            "Identity" => Some(array),
            "Cast" => {
                let to = attributes.integer("to")?.unwrap_or(0);
                let integers = [DataType::Int32, DataType::Int64].map(|t| i64::from(t as i32));
                integers.contains(&to).then_some(array)
            }
            "Shape" => Some(Array::vector(array.dims.iter().map(|&d| Some(d as i64)).collect())),
            "Unsqueeze" => {
                let axes = self.attribute_or_input(node, attributes, "axes", 1, 13)?;
                Some(array.unsqueeze(&axes.ok_or("its axes are missing")?)?)
            }
            "Squeeze" => {
                let axes = self.attribute_or_input(node, attributes, "axes", 1, 13)?;
                Some(array.squeeze(axes.as_deref())?)
            }
            "Reshape" => match self.input(node, 1)? {
                Value::Integer(target) => target.known().map(|t| array.reshape(&t)).transpose()?,
                _ => None,
            },
            "Transpose" => Some(array.transpose(attributes.integers("perm")?.as_deref())?),
            "Gather" if attributes.integer("axis")?.unwrap_or(0) == 0 => match self.input(node, 1)? {
                Value::Integer(indices) => array.gather(&indices),
                _ => None,
            },
            "Concat" if array.dims.len() == 1 || attributes.integer("axis")? == Some(0) => {
                let mut parts = Vec::new();
                for position in 0..node.input.len() {
                    match self.input(node, position)? {
                        Value::Integer(part) => parts.push(part),
                        _ => return Ok(None),
                    }
                }
                Array::concatenate(&parts)
            }
            "Slice" => {
                let read = self.slice_arguments(node, attributes)?;
                match (
                    read.starts.as_slice(),
                    read.ends.as_slice(),
                    read.steps.as_slice(),
                    read.axes.as_slice(),
                ) {
                    (&[start], &[end], &[step], &[0]) => array.slice(start, end, step),
                    (&[start], &[end], &[step], &[-1]) if array.dims.len() == 1 => {
                        array.slice(start, end, step)
                    }
                    _ => None,
                }
            }
            "ConstantOfShape" => match attributes.constant_of_shape()? {
                Some(value) => array.constant_of_shape(value),
                None => None,
            },
            "Add" | "Sub" | "Mul" | "Div" => match self.input(node, 1)? {
                Value::Integer(other) => array.arithmetic(&node.op_type, &other),
                _ => None,
            },
            _ => None,
        };
        Ok(result.map(Value::Integer))
    }
}

struct SliceArguments {
    starts: Vec<i64>,
    ends: Vec<i64>,
    axes: Vec<i64>,
    steps: Vec<i64>,
}

/// A matrix as `[output][input]`, and its number of outputs.
fn connected(matrix: Array<f32>, features: usize, transposed: bool) -> Result<(Vec<f32>, usize), String> {
    let dims = matrix.dims.clone();
    let matrix = if transposed || dims.len() != 2 { matrix } else { matrix.transpose(None)? };
    match matrix.dims.as_slice() {
        &[outputs, inputs] if inputs == features && outputs > 0 => Ok((matrix.data, outputs)),
        _ => Err(format!("its weights {dims:?} do not fit an input of {features} features")),
    }
}

/// How a window moves over an image.
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    padding: [usize; 4],
    dilation: [usize; 2],
    /// `[height, width]`.
    output: [usize; 2],
}

impl Window {
    /// Reads the attributes of a convolution (whose weights give the kernel) or a pooling.
    fn read(
        attributes: &Attributes<'_>,
        weights: Option<[usize; 2]>,
        image: [usize; 2],
    ) -> Result<Self, String> {
        let stated = attributes.sizes::<2>("kernel_shape", 1)?;
        let kernel = weights.or(stated).ok_or("its kernel_shape is missing")?;
        if stated.is_some_and(|k| k != kernel) {
            return Err(format!("its kernel_shape {stated:?} does not fit its weights' {kernel:?}"));
        }
        let stride = attributes.sizes::<2>("strides", 1)?.unwrap_or([1, 1]);
        let dilation = attributes.sizes::<2>("dilations", 1)?.unwrap_or([1, 1]);
        let stated = attributes.sizes::<4>("pads", 0)?.unwrap_or([0; 4]);
        let automatic = attributes.string("auto_pad")?.unwrap_or_else(|| "NOTSET".into());
        // ONNX pooling rounds the output size up in ceil mode.
        let ceil = attributes.integer("ceil_mode")?.unwrap_or(0) != 0;
        // Positions that the window spans.
        let span: [usize; 2] = std::array::from_fn(|axis| (kernel[axis] - 1) * dilation[axis] + 1);
        let padding = match automatic.as_str() {
            "" | "NOTSET" => stated,
            "VALID" => [0; 4],
            "SAME_UPPER" | "SAME_LOWER" => {
                let mut padding = [0; 4];
                for axis in 0..2 {
                    let covered = (image[axis].div_ceil(stride[axis]) - 1) * stride[axis] + span[axis];
                    let total = covered.saturating_sub(image[axis]);
                    let (small, large) = (total / 2, total.div_ceil(2));
                    let (first, last) =
                        if automatic == "SAME_UPPER" { (small, large) } else { (large, small) };
                    padding[axis] = first;
                    padding[axis + 2] = last;
                }
                padding
            }
            other => return Err(format!("its auto_pad is `{}`, which is unknown", printable(other))),
        };
        let mut output = [0; 2];
        for axis in 0..2 {
            let size = image[axis] + padding[axis] + padding[axis + 2];
            elements(&[size])?;
            let Some(room) = size.checked_sub(span[axis]) else {
                return Err(format!(
                    "its window spans {span:?} positions, more than the image of {image:?} with its padding"
                ));
            };
            if ceil && !room.is_multiple_of(stride[axis]) {
                return Err(
                    "its ceil_mode adds a position at the border, which is not supported; export with ceil_mode=False"
                        .into(),
                );
            }
            output[axis] = room / stride[axis] + 1;
        }
        Ok(Window { kernel, stride, padding, dilation, output })
    }
}

/// A node's attributes; remembers which were read, so that none is ignored in silence.
struct Attributes<'a> {
    node: &'a NodeProto,
    read: RefCell<HashSet<&'static str>>,
}

impl Attributes<'_> {
    fn find(&self, name: &'static str, kind: AttributeType) -> Result<Option<&AttributeProto>, String> {
        self.read.borrow_mut().insert(name);
        let Some(attribute) = self.node.attribute.iter().find(|a| a.name == name) else { return Ok(None) };
        // Files of the first ONNX versions do not state the type.
        let fits = [AttributeType::Undefined as i32, kind as i32].contains(&attribute.r#type);
        if !fits || !attribute.ref_attr_name.is_empty() {
            return Err(format!("its attribute `{name}` is no {}", kind.as_str_name()));
        }
        Ok(Some(attribute))
    }

    fn integer(&self, name: &'static str) -> Result<Option<i64>, String> {
        Ok(self.find(name, AttributeType::Int)?.map(|a| a.i))
    }

    fn float(&self, name: &'static str) -> Result<Option<f32>, String> {
        let value = self.find(name, AttributeType::Float)?.map(|a| a.f);
        if value.is_some_and(f32::is_nan) {
            return Err(format!("its attribute `{name}` is not a number"));
        }
        Ok(value)
    }

    fn integers(&self, name: &'static str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.find(name, AttributeType::Ints)?.map(|a| a.ints.clone()))
    }

    fn string(&self, name: &'static str) -> Result<Option<String>, String> {
        Ok(self.find(name, AttributeType::String)?.map(|a| String::from_utf8_lossy(&a.s).into_owned()))
    }

    /// `N` sizes from `least` to [`MAX_DIMENSION`].
    fn sizes<const N: usize>(&self, name: &'static str, least: usize) -> Result<Option<[usize; N]>, String> {
        let Some(values) = self.integers(name)? else { return Ok(None) };
        let sizes: Option<Vec<usize>> = values
            .iter()
            .map(|&v| usize::try_from(v).ok().filter(|v| (least..=MAX_DIMENSION).contains(v)))
            .collect();
        sizes.and_then(|s| s.try_into().ok()).map(Some).ok_or_else(|| {
            format!("its attribute `{name}` is {values:?}; {N} values from {least} to {MAX_DIMENSION} are supported")
        })
    }

    /// Reads nothing: the attribute has no influence on inference.
    fn ignore(&self, name: &'static str) {
        self.read.borrow_mut().insert(name);
    }

    /// The value of a `Constant` node.
    fn constant(&self) -> Outcome {
        if let Some(tensor) = self.find("value", AttributeType::Tensor)?.and_then(|a| a.t.as_ref()) {
            return Ok(match constant::read(tensor).map_err(|cause| format!("its value {cause}"))? {
                Constant::Float(array) => Value::Float(array),
                Constant::Integer(array) => Value::Integer(array),
            });
        }
        if let Some(value) = self.float("value_float")? {
            return Ok(Value::Float(Array { dims: vec![], data: vec![value] }));
        }
        if let Some(attribute) = self.find("value_floats", AttributeType::Floats)? {
            return Ok(Value::Float(Array::vector(attribute.floats.clone())));
        }
        if let Some(value) = self.integer("value_int")? {
            return Ok(Value::Integer(Array { dims: vec![], data: vec![Some(value)] }));
        }
        if let Some(values) = self.integers("value_ints")? {
            return Ok(Value::Integer(Array::vector(values.into_iter().map(Some).collect())));
        }
        Err("it holds no tensor or number".into())
    }

    /// The integer that `ConstantOfShape` repeats, `None` for a float.
    fn constant_of_shape(&self) -> Result<Option<i64>, String> {
        let Some(tensor) = self.find("value", AttributeType::Tensor)?.and_then(|a| a.t.as_ref()) else {
            return Ok(None);
        };
        Ok(match constant::read(tensor).map_err(|cause| format!("its value {cause}"))? {
            Constant::Integer(array) => array.scalar().flatten(),
            Constant::Float(_) => None,
        })
    }

    /// Refuses attributes that nothing read.
    fn finish(&self) -> Result<(), String> {
        let read = self.read.borrow();
        match self.node.attribute.iter().find(|a| !read.contains(a.name.as_str())) {
            None => Ok(()),
            Some(attribute) => Err(format!(
                "its attribute `{}` is not supported; export with standard ONNX operators",
                printable(&attribute.name)
            )),
        }
    }
}
