//! What is known while nodes are read one after the other, and how a node's handler gets at its
//! inputs.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use resight_model_file::Activation;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::array::Array;
use super::attributes::Attributes;
use super::fault::NodeFault;
use super::fault::inputs::InputFault;
use super::fault::structure::StructureFault;
use super::limits::{LimitFault, check_activation, check_weights};
use super::model::{Ending, Model, Reference, transpose};
use super::names::{node_name, printable};
use super::operation::{Kind, Operation};
use super::outside::OutsideConstants;
use super::preparation::Preparation;
use super::tensor::{self, Constant};
use super::value::{Axis, Data, Layout, NCHW, Outcome, Value};
use crate::function::Function;

/// Most steps back to what two results have in common.
const MAX_CHAIN: usize = 16;

/// The state of an import.
pub(super) struct Importer<'a> {
    /// Version of the standard operators.
    pub(super) opset: i64,
    /// Whether the file is quantised, so that nodes may mark what it rounds.
    pub(super) rounds: bool,
    /// Index into `tensors` by name.
    initialisers: HashMap<String, usize>,
    pub(super) tensors: Vec<TensorProto>,
    /// Where external data is.
    pub(super) folder: &'a Path,
    /// Bytes of external data read so far.
    pub(super) external: u64,
    /// Weights and other constants of the nodes so far.
    weights: usize,
    /// Weights that nodes made.
    made: usize,
    /// What nodes made so far.
    pub(super) values: HashMap<String, Value>,
    /// Initialisers that were read.
    pub(super) used: HashSet<usize>,
    /// Those of them that stay in their file.
    pub(super) outside: OutsideConstants,
    pub(super) operations: Vec<Operation>,
    /// Operators that consume a tensor.
    pub(super) consumers: HashMap<String, Vec<String>>,
    /// The network's outputs.
    pub(super) outputs: Vec<String>,
    /// Whether these are maps, not logits.
    pub(super) gives_maps: bool,
    /// What the network itself makes of its logits.
    pub(super) activation: Option<Activation>,
    /// What becomes of the image before the first operation.
    pub(super) preparation: Preparation,
    /// How the tensor of the first operation holds the image.
    layout: Layout,
    /// First outputs of the nodes that only prepare the image: the first operation's result is
    /// what is behind them.
    prepared: HashSet<String>,
    /// Nodes for the reference that make tensors of operations that the file has none for, or in
    /// another order.
    added: Vec<NodeProto>,
}

impl<'a> Importer<'a> {
    /// Before the first node: only the input is known. Takes the model's initialisers.
    pub(super) fn new(model: &mut Model, order: &[usize], folder: &'a Path) -> Importer<'a> {
        let mut consumers: HashMap<String, Vec<String>> = HashMap::new();
        for &index in order {
            let node = &model.graph.node[index];
            for name in &node.input {
                consumers.entry(name.clone()).or_default().push(node.op_type.clone());
            }
        }
        let input = Operation {
            kind: Kind::Input,
            inputs: vec![],
            name: printable(&model.input),
            operator: "input".into(),
            tensor: model.input.clone(),
            shape: model.shape,
        };
        let data = Data { operation: 0, shape: model.shape, padding: [0; 4], layout: model.layout.to_vec() };
        Importer {
            opset: model.opset,
            rounds: false,
            initialisers: std::mem::take(&mut model.initialisers),
            tensors: std::mem::take(&mut model.tensors),
            folder,
            external: 0,
            weights: 0,
            made: 0,
            values: HashMap::from([(model.input.clone(), Value::Data(data))]),
            used: HashSet::new(),
            outside: OutsideConstants::new(),
            operations: vec![input],
            consumers,
            outputs: model.outputs.clone(),
            gives_maps: matches!(model.ending, Ending::Maps(_)),
            activation: None,
            preparation: Preparation::none(model.shape[0], model.grey_levels),
            layout: model.layout.to_vec(),
            prepared: HashSet::new(),
            added: vec![],
        }
    }

    /// Makes `value` that of the node's first output.
    pub(super) fn define(&mut self, node: &NodeProto, value: Value) -> Result<(), StructureFault> {
        let output = node.output.first().filter(|o| !o.is_empty()).ok_or(StructureFault::NoOutput)?;
        let unknown = |o: &&String| !self.values.contains_key(*o);
        let needed = |o: &String| self.consumers.contains_key(o) || self.outputs.contains(o);
        if node.output.iter().skip(1).filter(unknown).any(needed) {
            return Err(StructureFault::SecondOutput);
        }
        self.values.insert(output.clone(), value);
        Ok(())
    }

    /// Whether any of the tensors is a result of the network.
    pub(super) fn works_on_data(&self, names: &[String]) -> bool {
        names.iter().any(|name| {
            let value = self.values.get(name);
            matches!(value, Some(Value::Data(_) | Value::Probabilities(..) | Value::Norm(_) | Value::Rows(_)))
        })
    }

    /// A node's input that must be there.
    pub(super) fn input(&mut self, node: &NodeProto, position: usize) -> Result<Value, InputFault> {
        self.optional(node, position)?.ok_or(InputFault::Missing(position))
    }

    /// A node's input, if it has one at this position.
    pub(super) fn optional(
        &mut self,
        node: &NodeProto,
        position: usize,
    ) -> Result<Option<Value>, InputFault> {
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
            return Err(InputFault::Unknown { name: name.clone() });
        };
        let constant =
            self.constant(index).map_err(|cause| InputFault::Initialiser { name: name.clone(), cause })?;
        let tensor = &mut self.tensors[index];
        let count = match &constant {
            Constant::Float(array) => array.data.len(),
            Constant::Integer(array) => array.data.len(),
        };
        let value = match constant {
            Constant::Float(array) => {
                if tensor::is_other_float(tensor) {
                    *tensor = tensor::to_proto(name, &array);
                }
                Value::Float(array)
            }
            Constant::Integer(array) => Value::Integer(array),
        };
        self.charge(count)?;
        Ok(Some(value))
    }

    /// Counts weights that nodes make, which count once more where they are taken.
    pub(super) fn charge_made(&mut self, count: usize) -> Result<(), LimitFault> {
        self.made = self.made.saturating_add(count);
        check_weights(self.made)
    }

    /// Counts constants that a node takes: a small file can name large ones often.
    pub(super) fn charge(&mut self, count: usize) -> Result<(), LimitFault> {
        self.weights = self.weights.saturating_add(count);
        check_weights(self.weights)
    }

    /// An input that is a result of the network, with any padding around it made.
    pub(super) fn plain(&mut self, node: &NodeProto, position: usize) -> Result<Data, InputFault> {
        let data = self.data(node, position)?;
        if data.padding != [0; 4] {
            return Ok(self.bordered(node, position, &data)?);
        }
        Ok(data)
    }

    /// An input that is a result of the network.
    pub(super) fn data(&mut self, node: &NodeProto, position: usize) -> Result<Data, InputFault> {
        let name = || node.input[position].clone();
        match self.input(node, position)? {
            Value::Data(data) => Ok(data),
            Value::Probabilities(..) => Err(InputFault::Probabilities),
            Value::Norm(_) => Err(InputFault::Norm),
            Value::Rows(_) => Err(InputFault::Rows),
            Value::Unresolved(operator) => Err(InputFault::Unresolved { name: name(), operator }),
            Value::Float(_) | Value::Integer(_) => Err(InputFault::Constant { name: name() }),
        }
    }

    /// An input that must hold finite constants, or `None` where it is absent.
    pub(super) fn weights(
        &mut self,
        node: &NodeProto,
        position: usize,
    ) -> Result<Option<Array<f32>>, InputFault> {
        let name = || node.input.get(position).cloned().unwrap_or_default();
        match self.optional(node, position)? {
            None => Ok(None),
            Some(Value::Float(array)) => {
                if let Some(index) = array.data.iter().position(|v| !v.is_finite()) {
                    let value = array.data[index];
                    return Err(InputFault::NotFinite { name: name(), value, position: index });
                }
                Ok(Some(array))
            }
            Some(Value::Integer(_)) => Err(InputFault::IntegerWeights { name: name() }),
            Some(Value::Unresolved(operator)) => {
                Err(InputFault::UnresolvedWeights { name: name(), operator })
            }
            Some(_) => Err(InputFault::ComputedWeights { name: name() }),
        }
    }

    /// One weight per channel.
    pub(super) fn per_channel(
        &mut self,
        node: &NodeProto,
        position: usize,
        channels: usize,
    ) -> Result<Vec<f32>, InputFault> {
        let array = self.weights(node, position)?.ok_or(InputFault::Missing(position))?;
        if array.data.len() != channels || array.dims.len() > 1 {
            let name = node.input[position].clone();
            return Err(InputFault::PerChannel { name, dims: array.dims, channels });
        }
        Ok(array.data)
    }

    /// Integers that must be known, or `None` where the input is absent.
    pub(super) fn integers(
        &mut self,
        node: &NodeProto,
        position: usize,
    ) -> Result<Option<Vec<i64>>, InputFault> {
        let unknown = || InputFault::NoConstant { name: node.input[position].clone() };
        match self.optional(node, position)? {
            None => Ok(None),
            Some(Value::Integer(array)) => array.known().map(Some).ok_or_else(unknown),
            Some(_) => Err(unknown()),
        }
    }

    /// Integers from an attribute in older operator sets, from an input in newer ones.
    pub(super) fn attribute_or_input(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
        name: &'static str,
        position: usize,
        input_since: i64,
    ) -> Result<Option<Vec<i64>>, NodeFault> {
        Ok(if self.opset < input_since { attributes.integers(name)? } else { self.integers(node, position)? })
    }

    /// Adds the operation that the node stands for; `layout` is that of the node's output.
    pub(super) fn push(
        &mut self,
        node: &NodeProto,
        kind: Kind,
        inputs: Vec<usize>,
        shape: [usize; 3],
        layout: &[Axis],
    ) -> Result<Data, LimitFault> {
        check_activation(&shape)?;
        // Scale and offset in f64, of the operation or of the convolution that it becomes.
        self.charge(4 * shape[0])?;
        let mut tensor = node.output.first().cloned().unwrap_or_default();
        let data = Data { operation: self.operations.len(), shape, padding: [0; 4], layout: layout.to_vec() };
        if data.is_reordered() {
            let copy = self.unused_name(&tensor);
            self.added.push(transpose(tensor, copy.clone(), to_nchw(layout)));
            tensor = copy;
        }
        self.operations.push(Operation {
            kind,
            inputs,
            name: node_name(node),
            operator: printable(&node.op_type),
            tensor,
            shape,
        });
        Ok(data)
    }

    /// Adds an operation that the node takes on its way; `tensor` holds its result.
    pub(super) fn step(
        &mut self,
        node: &NodeProto,
        kind: Kind,
        inputs: Vec<usize>,
        shape: [usize; 3],
        tensor: &str,
    ) -> Result<usize, LimitFault> {
        let node = NodeProto { output: vec![tensor.into()], ..named_like(node) };
        self.push(&node, kind, inputs, shape, &NCHW).map(|data| data.operation)
    }

    /// Whether a `Gather` takes a list: a single number would drop the dimension.
    pub(super) fn gathers_list(&mut self, node: &NodeProto) -> bool {
        matches!(self.input(node, 1), Ok(Value::Integer(indices)) if indices.dims.len() == 1)
    }

    /// The input of a concatenation that these of its channels are.
    pub(super) fn is_part(&self, concat: usize, order: &[usize]) -> Option<usize> {
        let Operation { kind: Kind::Concat, inputs, .. } = &self.operations[concat] else { return None };
        let mut first = 0;
        inputs.iter().copied().find(|&input| {
            let count = self.operations[input].shape[0];
            first += count;
            order.iter().copied().eq(first - count..first)
        })
    }

    /// The tensor of the file, as the node names it, or of the operation where it has none.
    pub(super) fn tensor_of(&self, name: &str, operation: usize) -> String {
        if self.values.contains_key(name) { name.into() } else { self.operations[operation].tensor.clone() }
    }

    /// For the reference: a group of a tensor's channels, which are divided along `axis`.
    pub(super) fn add_group(&mut self, tensor: &str, axis: usize, group: usize) -> String {
        let indices = super::model::integers(&[group as i64]);
        let index = self.add_node("Constant", &[], vec![indices]);
        let axis = super::model::integer("axis", axis as i64);
        self.add_node("Gather", &[tensor, &index], vec![axis])
    }

    /// Adds a transposed copy of a tensor for the reference and gives its name.
    pub(super) fn add_transpose(&mut self, tensor: String, order: Vec<i64>) -> String {
        let copy = self.unused_name(&tensor);
        self.added.push(transpose(tensor, copy.clone(), order));
        copy
    }

    /// Adds a node for the reference and gives the name of its output.
    pub(super) fn add_node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.unused_name(inputs.first().copied().unwrap_or(operator));
        self.added.push(NodeProto {
            op_type: operator.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.clone()],
            attribute,
            ..Default::default()
        });
        output
    }

    /// For the reference: the tensor `output` of the file, made by another node.
    pub(super) fn replace(&mut self, output: &str, operator: &str, inputs: &[&str]) {
        self.prepared.insert(output.to_owned());
        self.added.push(NodeProto {
            op_type: operator.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        });
    }

    /// Makes `value` that of an output other than the node's first.
    pub(super) fn define_output(&mut self, node: &NodeProto, position: usize, value: Value) {
        if let Some(output) = node.output.get(position).filter(|output| !output.is_empty()) {
            self.values.insert(output.clone(), value);
        }
    }

    /// As [`push`](Self::push), as the node's value.
    pub(super) fn value_of(
        &mut self,
        node: &NodeProto,
        kind: Kind,
        inputs: Vec<usize>,
        shape: [usize; 3],
        layout: &[Axis],
    ) -> Outcome {
        Ok(Value::Data(self.push(node, kind, inputs, shape, layout)?))
    }

    /// A name like `tensor` that no tensor has.
    fn unused_name(&self, tensor: &str) -> String {
        let mut name = format!("{tensor}_nchw");
        let added = |name: &String| self.added.iter().any(|node| node.output.contains(name));
        while self.consumers.contains_key(&name) || self.values.contains_key(&name) || added(&name) {
            name.push('_');
        }
        name
    }

    /// Channels, height and width of an input that is an image, with pending padding.
    pub(super) fn image(&mut self, node: &NodeProto) -> Result<(Data, [usize; 3]), InputFault> {
        let data = self.data(node, 0)?;
        if data.is_flat() {
            return Err(InputFault::Flat);
        }
        if !data.is_image() {
            return Err(InputFault::NoImage { layout: data.layout });
        }
        let shape = data.checked()?;
        Ok((data, shape))
    }

    /// Whether the node is the only one that needs the image as it is before the node.
    fn is_sole_use_of_image(&self, node: &NodeProto) -> bool {
        let image = &self.operations[0].tensor;
        node.input.contains(image) && self.consumers.get(image).is_some_and(|uses| uses.len() == 1)
    }

    /// Takes `scale[c] * x + offset[c]` of the image, which the node computes, into the image's
    /// preparation. Says whether it did: not where other nodes need the image as it is, nor where
    /// a factor is not positive.
    pub(super) fn prepare(&mut self, node: &NodeProto, data: &Data, scale: &[f64], offset: &[f64]) -> bool {
        if data.operation != 0 {
            return false;
        }
        self.preparation.is_normalised = true;
        let fits = self.is_sole_use_of_image(node) && scale.iter().all(|&factor| factor > 0.0);
        if fits {
            self.preparation.scale(scale, offset);
        }
        fits
    }

    /// Takes the order of channels, which the node makes of the image, into the image's
    /// preparation. Says whether it did.
    pub(super) fn prepare_channels(&mut self, node: &NodeProto, data: &Data, order: &[usize]) -> bool {
        let fits = data.operation == 0 && self.is_sole_use_of_image(node);
        if fits {
            self.preparation.reorder(order);
        }
        fits
    }

    /// Takes the rounding of the image to whole grey levels, which the node is, into the image's preparation.
    /// Says whether it did.
    pub(super) fn prepare_levels(&mut self, node: &NodeProto, data: &Data) -> bool {
        let fits = data.operation == 0 && data.padding == [0; 4] && self.is_sole_use_of_image(node);
        if fits {
            self.preparation.round();
        }
        fits
    }

    /// Puts the first operation behind the node where that makes no operation of its own.
    pub(super) fn follow_image(&mut self, node: &NodeProto, value: &Value) {
        if let Value::Data(data) = value
            && data.operation == 0
            && data.padding == [0; 4]
            && self.is_sole_use_of_image(node)
            && let Some(output) = node.output.first()
        {
            self.prepared.insert(output.clone());
            self.operations[0].tensor.clone_from(output);
            self.layout.clone_from(&data.layout);
        }
    }

    /// What the reference engine gets; the image's tensor and the copies are named in the
    /// operations.
    pub(super) fn reference(&mut self) -> Reference {
        let image = Data {
            operation: 0,
            shape: self.operations[0].shape,
            padding: [0; 4],
            layout: std::mem::take(&mut self.layout),
        };
        let mut before = vec![];
        if !image.is_image() {
            let tensor = self.operations[0].tensor.clone();
            let copy = self.unused_name(&tensor);
            before.push(transpose(copy.clone(), tensor, from_nchw(&image.layout)));
            self.operations[0].tensor = copy;
        }
        let outside = std::mem::take(&mut self.outside);
        self.used.retain(|index| !outside.contains_key(index));
        Reference {
            outside,
            input: self.operations[0].tensor.clone(),
            prepared: std::mem::take(&mut self.prepared),
            added: before.into_iter().chain(std::mem::take(&mut self.added)).collect(),
            tensors: std::mem::take(&mut self.tensors),
            used: std::mem::take(&mut self.used),
        }
    }

    /// The nearest operation that both results are functions of, value by value, with the two
    /// functions, and whether one of them is more than scaling, shifting and limiting.
    pub(super) fn same_source(&self, left: usize, right: usize) -> Option<(usize, [Function; 2], bool)> {
        let (left, right) = (self.chain(left), self.chain(right));
        let (f, g) = left.iter().find_map(|f| right.iter().find(|g| g.0 == f.0).map(|g| (f, g)))?;
        Some((f.0, [f.1.clone(), g.1.clone()], f.2 || g.2))
    }

    /// The operations that a result is a function of, value by value, from itself on.
    fn chain(&self, result: usize) -> Vec<(usize, Function, bool)> {
        let mut chain = vec![(result, Function::Argument, false)];
        while let Some((at, function, is_curved)) = chain.last()
            && chain.len() <= MAX_CHAIN
            && let Some(step) = self.operations[*at].function()
            && let Some(function) = function.of(&step)
        {
            let is_curved = *is_curved || matches!(self.operations[*at].kind, Kind::Function(_));
            chain.push((self.operations[*at].inputs[0], function, is_curved));
        }
        chain
    }

    /// A function of each value of the data, as the node's value: together with the function that
    /// the data is already, where it is one.
    pub(super) fn apply(&mut self, node: &NodeProto, data: &Data, function: &Function) -> Outcome {
        let before = &self.operations[data.operation];
        let composed = match &before.kind {
            Kind::Function(inner) => function.of(inner).map(|both| (both, before.inputs[0])),
            _ => None,
        };
        let (function, source) = composed.unwrap_or_else(|| (function.clone(), data.operation));
        self.value_of(node, Kind::Function(function), vec![source], data.shape, &data.layout)
    }

    /// Whether a `Relu` would change nothing.
    pub(super) fn is_non_negative(&self, mut operation: usize) -> bool {
        loop {
            let Operation { kind, inputs, .. } = &self.operations[operation];
            match kind {
                Kind::Relu | Kind::Clip { .. } | Kind::Rounding { from_zero: true } => return true,
                Kind::MaxPool { .. }
                | Kind::Rounding { from_zero: false }
                | Kind::Select { .. }
                | Kind::GlobalAverage
                | Kind::Resize { .. }
                | Kind::AveragePool { .. } => {
                    operation = inputs[0];
                }
                _ => return false,
            }
        }
    }
}

/// A node with the same name and operator, without the rest.
pub(super) fn named_like(node: &NodeProto) -> NodeProto {
    NodeProto { name: node_name(node), op_type: node.op_type.clone(), ..Default::default() }
}

/// The permutation of ONNX `Transpose` that brings a tensor of this layout into the order of
/// channels, rows, columns, dimensions of 1 behind.
fn to_nchw(layout: &[Axis]) -> Vec<i64> {
    let mut order: Vec<usize> = (0..layout.len()).collect();
    order.sort_by_key(|&position| layout[position].rank());
    order.into_iter().map(|position| position as i64).collect()
}

/// The permutation that brings an NCHW tensor into this layout of four dimensions.
fn from_nchw(layout: &[Axis]) -> Vec<i64> {
    layout.iter().filter_map(|axis| NCHW.iter().position(|own| own == axis)).map(|at| at as i64).collect()
}
