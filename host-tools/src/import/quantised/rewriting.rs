//! What is known while a quantised graph becomes a float one, node by node.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

use resight_runtime::Quantisation;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::constant::{Integers, Weights};
use super::fault::QuantisedFault;
use super::marks::{FROM_ZERO, FileQuantisation, MARK, WHOLE_LEVELS};
use super::parameters::Parameters;

use crate::import::array::Array;
use crate::import::model;
use crate::import::names::{node_name, printable};
use crate::import::tensor::{self, Constant};
use crate::import::width::Width;

/// How much, by the whole of it, a scale may be another one where the same tensor is read: a product has a
/// multiplier of 14 bits here, and an export says which by the scale of a factor.
const SAME_SCALE: f32 = 1.0 / 8192.0;

/// An 8-bit tensor of the file.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    /// Known integers.
    Constant(Integers),
    /// A result of the network: the tensor of the same name holds the real numbers.
    Result(Quantisation),
    /// What the network is given.
    Image(Width),
}

/// A graph on its way from integers to floats.
pub(super) struct Rewriting<'a> {
    folder: &'a Path,
    /// Bytes of external data read so far.
    external: u64,
    graph: GraphProto,
    /// The graph's initialisers, and the values of its constants, by name.
    constants: HashMap<String, TensorProto>,
    /// 8-bit tensors that nodes made.
    stored: HashMap<String, Stored>,
    /// Constants that were dequantised.
    pub(super) weights: HashMap<String, Weights>,
    nodes: Vec<NodeProto>,
    /// Initialisers besides those of the file.
    added: Vec<TensorProto>,
    tensor_names: HashSet<String>,
    node_names: HashSet<String>,
    found: FileQuantisation,
}

impl<'a> Rewriting<'a> {
    pub(super) fn new(mut graph: GraphProto, path: &'a Path) -> Rewriting<'a> {
        let mut constants: HashMap<String, TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.clone())).collect();
        for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
            let value = node.attribute.iter().find_map(|attribute| match attribute.name.as_str() {
                "value" => attribute.t.clone(),
                "value_float" => Some(tensor::to_proto("", &Array { dims: vec![], data: vec![attribute.f] })),
                "value_floats" => Some(tensor::to_proto("", &Array::vector(attribute.floats.clone()))),
                _ => None,
            });
            if let (Some(value), Some(output)) = (value, node.output.first()) {
                constants.insert(output.clone(), value);
            }
        }
        let mut stored = HashMap::new();
        for input in graph.input.iter_mut().filter(|input| !constants.contains_key(&input.name)) {
            if let Some(width) = model::image_of_integers(input) {
                stored.insert(input.name.clone(), Stored::Image(width));
            }
        }
        let of_nodes = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output));
        let tensor_names = of_nodes.chain(constants.keys()).cloned().collect();
        Rewriting {
            folder: path.parent().unwrap_or(Path::new("")),
            external: 0,
            graph,
            constants,
            stored,
            weights: HashMap::new(),
            nodes: vec![],
            added: vec![],
            tensor_names,
            node_names: HashSet::new(),
            found: FileQuantisation::default(),
        }
    }

    /// The nodes that are to be rewritten, each after its inputs.
    pub(super) fn take_nodes(&mut self) -> Vec<NodeProto> {
        sorted(std::mem::take(&mut self.graph.node))
    }

    /// A node with a name that no earlier one has.
    pub(super) fn named(&mut self, mut node: NodeProto) -> NodeProto {
        self.make_name_unique(&mut node);
        node
    }

    /// The float graph, and what the file says of its numbers.
    pub(super) fn finish(mut self) -> (GraphProto, FileQuantisation) {
        self.leave_probabilities_out();
        self.graph.node = self.nodes;
        self.graph.initializer.append(&mut self.added);
        (self.graph, self.found)
    }

    /// Makes a softmax or sigmoid, whose probabilities are rounded behind it, the last node: it is left
    /// out as that of a float network is, and what rounds it too.
    fn leave_probabilities_out(&mut self) {
        let [output] = self.graph.output.as_mut_slice() else { return };
        let makers: HashMap<&str, &NodeProto> =
            self.nodes.iter().filter_map(|node| Some((node.output.first()?.as_str(), node))).collect();
        let mut name = output.name.as_str();
        // A cycle has no more steps than nodes.
        for _ in 0..self.nodes.len() {
            let Some(node) = makers.get(name) else { return };
            match (node.op_type.as_str(), node.input.first()) {
                ("Identity" | MARK, Some(input)) => name = input,
                ("Softmax" | "LogSoftmax" | "Sigmoid", _) => {
                    output.name = name.to_owned();
                    return;
                }
                _ => return,
            }
        }
    }

    /// The names of layers are what their weights are found by.
    fn make_name_unique(&mut self, node: &mut NodeProto) {
        let name = self.unused_node_name(&node_name(node));
        if name != node_name(node) || node.name.is_empty() {
            node.name = name;
        }
    }

    /// A name like `base` that no node has.
    fn unused_node_name(&mut self, base: &str) -> String {
        let mut name = printable(base);
        let mut number = 1;
        while !self.node_names.insert(name.clone()) {
            number += 1;
            // Long names are cut off at their end.
            name = printable(&format!("{number}_{base}"));
        }
        name
    }

    /// A name like `tensor` that no tensor has.
    pub(super) fn unused_name(&mut self, tensor: &str) -> String {
        let mut name = format!("{tensor}_real");
        while !self.tensor_names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    /// Adds a node as it is.
    pub(super) fn push(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    /// Adds a node like another one, with this operator, inputs and output, and the attributes that are
    /// named.
    pub(super) fn push_like(
        &mut self,
        like: &NodeProto,
        operator: &str,
        inputs: Vec<String>,
        output: &str,
        attributes: &[&str],
    ) {
        let kept = like.attribute.iter().filter(|attribute| attributes.contains(&attribute.name.as_str()));
        self.nodes.push(NodeProto {
            name: like.name.clone(),
            op_type: operator.into(),
            input: inputs,
            output: vec![output.into()],
            attribute: kept.cloned().collect(),
            ..NodeProto::default()
        });
    }

    /// Adds a constant of floats and gives its name.
    pub(super) fn push_constant(&mut self, like: &str, array: &Array<f32>) -> String {
        let name = self.unused_name(like);
        self.added.push(tensor::to_proto(&name, array));
        name
    }

    /// Adds a mark: `output` is `input` rounded.
    pub(super) fn mark(&mut self, like: &NodeProto, input: String, output: &str, quantisation: Quantisation) {
        // In the form of operators the layer has the name already.
        let name = if like.op_type == "QuantizeLinear" {
            node_name(like)
        } else {
            self.unused_node_name(&format!("{}_rounded", node_name(like)))
        };
        self.found.activations.insert(name.clone(), quantisation);
        self.found.tensors.insert(output.into(), quantisation);
        self.push_like(&NodeProto { name, ..NodeProto::default() }, MARK, vec![input], output, &[]);
        if quantisation.zero_point == -128
            && let Some(mark) = self.nodes.last_mut()
        {
            mark.attribute.push(model::integer(FROM_ZERO, 1));
        }
        self.stored.insert(output.into(), Stored::Result(quantisation));
    }

    /// Says of the mark behind which a tensor is that it rounds to whole grey levels, which an image is made of
    /// anyway. Gives whether there is one.
    pub(super) fn take_whole_levels(&mut self, tensor: &str) -> bool {
        let mark = self.nodes.iter_mut().find(|node| node.op_type == MARK && node.output[0] == tensor);
        mark.map(|mark| mark.attribute.push(model::integer(WHOLE_LEVELS, 1))).is_some()
    }

    /// Makes the output of the node the integers of a constant.
    pub(super) fn store(&mut self, name: &str, stored: Stored) {
        self.stored.insert(name.into(), stored);
    }

    /// Remembers the largest integer weights of each output of a layer, and what their steps are worth.
    pub(super) fn set_layer(&mut self, node: &NodeProto, largest: Vec<u32>, scales: Vec<f32>) {
        self.found.scales.insert(node_name(node), scales);
        self.found.weights.insert(node_name(node), largest);
    }

    /// The 8-bit tensor of a name, if it is one.
    pub(super) fn stored(&mut self, name: &str) -> Result<Option<Stored>, QuantisedFault> {
        if let Some(stored) = self.stored.get(name) {
            return Ok(Some(stored.clone()));
        }
        let is_integers = |tensor: &TensorProto| Width::of(tensor.data_type).is_some();
        if !self.constants.get(name).is_some_and(is_integers) {
            return Ok(None);
        }
        Ok(self.integers("input", name)?.map(Stored::Constant))
    }

    /// The constant of a name, with its external data.
    fn constant(&mut self, what: &'static str, name: &str) -> Result<Option<&TensorProto>, QuantisedFault> {
        let Some(tensor) = self.constants.get_mut(name) else { return Ok(None) };
        if tensor::is_external(tensor) {
            tensor::load_external(tensor, self.folder, &mut self.external)
                .map_err(|cause| QuantisedFault::Tensor { what, name: name.into(), cause })?;
        }
        Ok(Some(tensor))
    }

    /// The floats of a constant; `None` where it is none.
    pub(super) fn floats(
        &mut self,
        what: &'static str,
        name: &str,
    ) -> Result<Option<Array<f32>>, QuantisedFault> {
        let is_float = |tensor: &TensorProto| tensor::is_float(i64::from(tensor.data_type));
        if !self.constants.get(name).is_some_and(is_float) {
            return Ok(None);
        }
        let Some(tensor) = self.constant(what, name)? else { return Ok(None) };
        match tensor::read(tensor) {
            Ok(Constant::Float(array)) => Ok(Some(array)),
            Ok(Constant::Integer(_)) => Ok(None),
            Err(cause) => Err(QuantisedFault::Tensor { what, name: name.into(), cause }),
        }
    }

    /// The integers of a constant; `None` where it is none.
    fn integers(&mut self, what: &'static str, name: &str) -> Result<Option<Integers>, QuantisedFault> {
        let Some(tensor) = self.constant(what, name)? else { return Ok(None) };
        let Some(width) = Width::of(tensor.data_type) else {
            let found = DataType::try_from(tensor.data_type)
                .map_or_else(|_| format!("number {}", tensor.data_type), |found| found.as_str_name().into());
            return Err(QuantisedFault::Type { what, name: name.into(), found });
        };
        let array = tensor::read_integers(tensor).map_err(|cause| QuantisedFault::Tensor {
            what,
            name: name.into(),
            cause,
        })?;
        let (least, most) = width.range();
        if let Some(&found) = array.data.iter().find(|value| !(least..=most).contains(value)) {
            return Err(QuantisedFault::Beyond { what, name: name.into(), found, least, most });
        }
        Ok(Some(Integers { array, width }))
    }

    /// Refuses a constant whose type is none of quantised numbers.
    pub(super) fn refuse_type(&mut self, what: &'static str, name: &str) -> Result<(), QuantisedFault> {
        self.integers(what, name).map(|_| ())
    }

    /// One number of a quantised type, and the type.
    pub(super) fn zero_point(&mut self, name: &str) -> Result<(i64, Width), QuantisedFault> {
        let what = "zero point";
        match self.integers(what, name)? {
            Some(Integers { array, width }) => match array.scalar() {
                Some(zero) => Ok((zero, width)),
                None => Err(QuantisedFault::Count { scales: 1, zero_points: array.data.len() }),
            },
            None => Err(QuantisedFault::Computed { what, name: name.into() }),
        }
    }

    /// Scales and zero points from two inputs of a node; `width` is the type where the zero point is
    /// left out.
    pub(super) fn parameters(
        &mut self,
        node: &NodeProto,
        [scale_at, zero_at]: [usize; 2],
        width: Option<Width>,
        axis: i64,
    ) -> Result<Parameters, QuantisedFault> {
        let scale_name = input(node, scale_at)?.to_owned();
        let Some(scales) = self.floats("scale", &scale_name)? else {
            return Err(QuantisedFault::Computed { what: "scale", name: scale_name });
        };
        let rank = scales.dims.iter().filter(|&&size| size != 1).count();
        if rank > 1 {
            return Err(QuantisedFault::BlockScales { rank });
        }
        let is_usable = |value: &f32| value.is_normal() && *value > 0.0;
        if let Some(position) = scales.data.iter().position(|value| !is_usable(value)) {
            return Err(QuantisedFault::Scale { name: scale_name, value: scales.data[position], position });
        }
        let zero_name = node.input.get(zero_at).filter(|name| !name.is_empty()).cloned();
        let (zero_points, width) = match (zero_name, width) {
            (Some(name), expected) => {
                let Some(zeros) = self.integers("zero point", &name)? else {
                    return Err(QuantisedFault::Computed { what: "zero point", name });
                };
                if expected.is_some_and(|expected| expected != zeros.width) {
                    let found = format!("{:?}, its numbers {:?}", zeros.width, expected).to_uppercase();
                    return Err(QuantisedFault::Type { what: "zero point", name, found });
                }
                (zeros.array.data, zeros.width)
            }
            (None, width) => (vec![0; scales.data.len()], width.unwrap_or(Width::Uint8)),
        };
        if let (Width::Int32, Some(&zero)) = (width, zero_points.iter().find(|&&zero| zero != 0)) {
            return Err(QuantisedFault::WideZeroPoint(zero));
        }
        // One zero point stands for all.
        let zero_points = match zero_points.as_slice() {
            &[zero] => vec![zero; scales.data.len()],
            _ => zero_points,
        };
        if zero_points.len() != scales.data.len() || zero_points.is_empty() {
            return Err(QuantisedFault::Count { scales: scales.data.len(), zero_points: zero_points.len() });
        }
        Ok(Parameters { scales: scales.data, zero_points, axis, width })
    }

    /// The float tensor of a node's input, of 8-bit numbers that the node reads with these parameters.
    pub(super) fn real(
        &mut self,
        node: &NodeProto,
        at: usize,
        parameters: &Parameters,
    ) -> Result<String, QuantisedFault> {
        let name = input(node, at)?.to_owned();
        match self.stored(&name)? {
            Some(Stored::Constant(integers)) => {
                let (array, weights) = parameters.dequantise(&integers)?;
                let constant = self.push_constant(&name, &array);
                self.weights.insert(constant.clone(), weights);
                Ok(constant)
            }
            Some(Stored::Result(found)) => {
                let read = parameters.activation()?;
                let is_same_scale = (found.scale - read.scale).abs() <= SAME_SCALE * found.scale;
                if !is_same_scale || found.zero_point != read.zero_point {
                    return Err(QuantisedFault::Disagreement {
                        name,
                        found: found.scale,
                        found_zero: found.zero_point,
                        scale: read.scale,
                        zero: read.zero_point,
                    });
                }
                Ok(name)
            }
            Some(Stored::Image(width)) => self.image(node, &name, width, parameters),
            None => Err(QuantisedFault::NotQuantised { name }),
        }
    }

    /// The real numbers of an image that the file takes as 8-bit numbers. Grey levels are what an image
    /// is made of, and an int8 image is of grey levels - 128.
    fn image(
        &mut self,
        node: &NodeProto,
        name: &str,
        width: Width,
        parameters: &Parameters,
    ) -> Result<String, QuantisedFault> {
        let quantisation = parameters.activation()?;
        let zero = (quantisation.zero_point + 128) as f32;
        if width == Width::Int32 {
            return Err(QuantisedFault::Type { what: "input", name: name.into(), found: "INT32".into() });
        }
        let one = |value: f32| Array { dims: vec![], data: vec![value] };
        let (zero, scale) =
            (self.push_constant(name, &one(zero)), self.push_constant(name, &one(quantisation.scale)));
        let (shifted, scaled, rounded) =
            (self.unused_name(name), self.unused_name(name), self.unused_name(name));
        self.push_like(node, "Sub", vec![name.into(), zero], &shifted, &[]);
        self.push_like(node, "Mul", vec![shifted, scale], &scaled, &[]);
        self.mark(node, scaled, &rounded, quantisation);
        Ok(rounded)
    }

    /// The name of a node's output.
    pub(super) fn output(node: &NodeProto) -> Result<String, QuantisedFault> {
        node.output.first().filter(|name| !name.is_empty()).cloned().ok_or(QuantisedFault::NoOutput)
    }
}

/// A node's input that must be there.
pub(super) fn input(node: &NodeProto, at: usize) -> Result<&str, QuantisedFault> {
    node.input
        .get(at)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .ok_or(QuantisedFault::MissingInput(at))
}

/// The nodes, each after its inputs, otherwise in their order. Those of a cycle come last: who reads
/// the graph names them.
fn sorted(nodes: Vec<NodeProto>) -> Vec<NodeProto> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in &node.output {
            makers.insert(output, index);
        }
    }
    let mut waiting = vec![0usize; nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![vec![]; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for &maker in node.input.iter().filter_map(|input| makers.get(input.as_str())) {
            users[maker].push(index);
            waiting[index] += 1;
        }
    }
    let mut ready: VecDeque<usize> = (0..nodes.len()).filter(|&index| waiting[index] == 0).collect();
    let mut order = vec![];
    while let Some(index) = ready.pop_front() {
        order.push(index);
        for &user in &users[index] {
            waiting[user] -= 1;
            if waiting[user] == 0 {
                ready.push_back(user);
            }
        }
    }
    order.extend((0..nodes.len()).filter(|&index| waiting[index] > 0));
    let mut nodes: Vec<Option<NodeProto>> = nodes.into_iter().map(Some).collect();
    order.into_iter().filter_map(|index| nodes[index].take()).collect()
}
