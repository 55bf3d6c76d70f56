//! What is known while nodes are read one after the other, and how a node's handler gets at its
//! inputs.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb::{NodeProto, TensorProto};

use super::array::Array;
use super::attributes::Attributes;
use super::error::{node_name, printable};
use super::limits::{MAX_WEIGHTS, check_activation};
use super::model::Model;
use super::operation::{Kind, Operation};
use super::tensor::{self, Constant};
use super::value::{Data, Outcome, Value};

/// The state of an import.
pub(super) struct Importer<'a> {
    /// Version of the standard operators.
    pub(super) opset: i64,
    /// Index into `tensors` by name.
    initialisers: HashMap<String, usize>,
    pub(super) tensors: Vec<TensorProto>,
    /// Where external data is.
    folder: &'a Path,
    /// Bytes of external data read so far.
    external: u64,
    /// Weights and other constants of the nodes so far.
    weights: usize,
    /// What nodes made so far.
    values: HashMap<String, Value>,
    /// Initialisers that were read.
    pub(super) used: HashSet<usize>,
    pub(super) operations: Vec<Operation>,
    /// Operators that consume a tensor.
    pub(super) consumers: HashMap<String, Vec<String>>,
    /// The network's output.
    pub(super) output: String,
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
        let data = Data { operation: 0, padding: [0; 4], flat: false };
        Importer {
            opset: model.opset,
            initialisers: std::mem::take(&mut model.initialisers),
            tensors: std::mem::take(&mut model.tensors),
            folder,
            external: 0,
            weights: 0,
            values: HashMap::from([(model.input.clone(), Value::Data(data))]),
            used: HashSet::new(),
            operations: vec![input],
            consumers,
            output: model.output.clone(),
        }
    }

    /// Makes `value` that of the node's first output.
    pub(super) fn define(&mut self, node: &NodeProto, value: Value) -> Result<(), String> {
        let output = node.output.first().filter(|o| !o.is_empty()).ok_or("it has no output")?;
        if node.output.iter().skip(1).any(|o| self.consumers.contains_key(o) || *o == self.output) {
            return Err("its second output is used; only the first is supported, export for inference".into());
        }
        self.values.insert(output.clone(), value);
        Ok(())
    }

    /// The operation whose result is the network's output, if the output is one.
    pub(super) fn result(&self) -> Option<usize> {
        match self.values.get(&self.output)? {
            Value::Data(data) if data.padding == [0; 4] => Some(data.operation),
            Value::Probabilities(operation) => Some(*operation),
            _ => None,
        }
    }

    /// Whether any of the tensors is a result of the network.
    pub(super) fn works_on_data(&self, names: &[String]) -> bool {
        names
            .iter()
            .any(|name| matches!(self.values.get(name), Some(Value::Data(_) | Value::Probabilities(_))))
    }

    /// A node's input that must be there.
    pub(super) fn input(&mut self, node: &NodeProto, position: usize) -> Outcome {
        self.optional(node, position)?.ok_or_else(|| format!("its input {position} is missing"))
    }

    /// A node's input, if it has one at this position.
    pub(super) fn optional(&mut self, node: &NodeProto, position: usize) -> Result<Option<Value>, String> {
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
        if tensor::is_external(tensor) {
            tensor::load_external(tensor, self.folder, &mut self.external).map_err(named)?;
        }
        let constant = tensor::read(tensor).map_err(named)?;
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

    /// Counts constants that a node takes: a small file can name large ones often.
    pub(super) fn charge(&mut self, count: usize) -> Result<(), String> {
        self.weights = self.weights.saturating_add(count);
        if self.weights > MAX_WEIGHTS {
            return Err(format!(
                "with it the network has more than {MAX_WEIGHTS} weights; use a smaller one"
            ));
        }
        Ok(())
    }

    /// An input that is a result of the network, without padding around it.
    pub(super) fn plain(&mut self, node: &NodeProto, position: usize) -> Result<Data, String> {
        let data = self.data(node, position)?;
        if data.padding != [0; 4] {
            return Err("it follows a Pad, which can only be folded into a convolution".into());
        }
        Ok(data)
    }

    /// An input that is a result of the network.
    pub(super) fn data(&mut self, node: &NodeProto, position: usize) -> Result<Data, String> {
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
    pub(super) fn weights(
        &mut self,
        node: &NodeProto,
        position: usize,
    ) -> Result<Option<Array<f32>>, String> {
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
    pub(super) fn per_channel(
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
    pub(super) fn integers(&mut self, node: &NodeProto, position: usize) -> Result<Option<Vec<i64>>, String> {
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
    pub(super) fn attribute_or_input(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
        name: &'static str,
        position: usize,
        input_since: i64,
    ) -> Result<Option<Vec<i64>>, String> {
        if self.opset < input_since { attributes.integers(name) } else { self.integers(node, position) }
    }

    pub(super) fn push(
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
    pub(super) fn value_of(
        &mut self,
        node: &NodeProto,
        kind: Kind,
        inputs: Vec<usize>,
        shape: [usize; 3],
        flat: bool,
    ) -> Outcome {
        self.push(node, kind, inputs, shape).map(|data| Value::Data(Data { flat, ..data }))
    }

    pub(super) fn shape_of(&self, data: Data) -> [usize; 3] {
        self.operations[data.operation].shape
    }

    /// The shape with the pending padding.
    pub(super) fn padded(&self, data: Data) -> Result<[usize; 3], String> {
        let [c, h, w] = self.shape_of(data);
        let shape = [c, h + data.padding[0] + data.padding[2], w + data.padding[1] + data.padding[3]];
        check_activation(&shape).map(|()| shape)
    }

    /// Channels, height and width of an input that is an image, with pending padding.
    pub(super) fn image(&mut self, node: &NodeProto) -> Result<(Data, [usize; 3]), String> {
        let data = self.data(node, 0)?;
        if data.flat {
            return Err("its input is flat, [batch, features], where an image is needed".into());
        }
        Ok((data, self.padded(data)?))
    }

    /// Whether a `Relu` would change nothing.
    pub(super) fn is_non_negative(&self, mut operation: usize) -> bool {
        loop {
            let Operation { kind, inputs, .. } = &self.operations[operation];
            match kind {
                Kind::Relu => return true,
                Kind::MaxPool { .. } | Kind::Select { .. } | Kind::GlobalAverage => operation = inputs[0],
                _ => return false,
            }
        }
    }
}
