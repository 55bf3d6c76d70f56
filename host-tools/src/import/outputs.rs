//! Which results of the network are its outputs.

use resight_model_file::{Activation, level_name};
use tract_onnx::pb::NodeProto;

use super::fault::ModelFault;
use super::fault::outputs::OutputFault;
use super::importer::Importer;
use super::limits::LimitFault;
use super::model::{integer, integers};
use super::operation::{Kind, Operation};
use super::rows::Map;
use super::value::{Axis, Value};
use crate::function::{Function, Unary};

/// An operation whose result is an output, the output's name, and what the file makes of it in the end.
type Named = (usize, String, Option<Activation>);

impl Importer<'_> {
    /// Whether the node makes an output of the network.
    pub(super) fn makes_output(&self, node: &NodeProto) -> bool {
        node.output.first().is_some_and(|output| self.outputs.contains(output))
    }

    /// Whether the node makes a map that is an output and goes nowhere else.
    pub(super) fn ends_in_map(&self, node: &NodeProto) -> bool {
        let is_used = |output: &String| self.consumers.contains_key(output);
        self.gives_maps && self.makes_output(node) && !node.output.first().is_some_and(is_used)
    }

    /// The operations whose results are the network's outputs, with their names and what the file
    /// makes of them in the end; or why one is no such result. An output that maps
    /// are one behind the other in stands for all of them.
    pub(super) fn results(&mut self) -> Result<Vec<Named>, ModelFault> {
        let mut results = vec![];
        for name in self.outputs.clone() {
            self.result(&name, &mut results).map_err(|cause| ModelFault::Output { name, cause })?;
        }
        Ok(results)
    }

    fn result(&mut self, name: &str, results: &mut Vec<Named>) -> Result<(), OutputFault> {
        let is_map = |axis: &Axis| {
            matches!(
                axis,
                Axis::Batch
                    | Axis::Channels
                    | Axis::Height
                    | Axis::Width
                    | Axis::One
                    | Axis::Outer(_)
                    | Axis::Inner
            )
        };
        match self.values.get(name).cloned() {
            Some(Value::Data(data)) if data.padding != [0; 4] => Err(OutputFault::NoResult),
            Some(Value::Data(data)) if self.gives_maps && !data.layout.iter().all(is_map) => {
                Err(OutputFault::NoMap { layout: data.layout })
            }
            Some(Value::Data(data)) => {
                results.push((data.operation, name.to_owned(), None));
                Ok(())
            }
            Some(Value::Probabilities(operation, activation)) => {
                results.push((operation, name.to_owned(), Some(activation)));
                Ok(())
            }
            Some(Value::Rows(rows)) => {
                let maps = rows.maps()?;
                let is_one = maps.len() == 1;
                for (level, map) in maps.into_iter().enumerate() {
                    let name = if is_one { name.to_owned() } else { level_name(name, level) };
                    let activation = map.activation;
                    let (operation, before) =
                        self.in_order(&name, map).map(|map| self.before_sigmoid(map))?;
                    results.push((operation, name, activation.or(before)));
                }
                Ok(())
            }
            _ => Err(OutputFault::NoResult),
        }
    }

    /// Makes of a vector what is before its division by its norm, which is left to whoever reads it: the
    /// finer numbers. Says whether there is one.
    pub(super) fn before_norm(&self, results: &mut [Named]) -> Result<bool, ModelFault> {
        let mut normalised = false;
        for (operation, name, activation) in results {
            if let Some(activation) = activation.or(self.activation) {
                return Err(ModelFault::Probabilities { name: name.clone(), activation });
            }
            while let Operation { kind: Kind::Normalise, inputs, .. } = &self.operations[*operation] {
                (*operation, normalised) = (inputs[0], true);
            }
        }
        Ok(normalised)
    }

    /// The operation that gives a map in the order of anchors.
    fn in_order(&mut self, name: &str, map: Map) -> Result<usize, LimitFault> {
        let Map { operation, shape, order: Some(order), .. } = map else { return Ok(map.operation) };
        let list: Vec<i64> = order.iter().map(|&channel| channel as i64).collect();
        let indices = self.add_node("Constant", &[], vec![integers(&list)]);
        let tensor = self.operations[operation].tensor.clone();
        let tensor = self.add_node("Gather", &[&tensor, &indices], vec![integer("axis", 1)]);
        let node = NodeProto { name: name.to_owned(), op_type: "Gather".into(), ..Default::default() };
        self.step(&node, Kind::Channels(order), vec![operation], shape, &tensor)
    }

    /// What is before a sigmoid, which is left to the decoder: the finer numbers.
    fn before_sigmoid(&self, operation: usize) -> (usize, Option<Activation>) {
        match &self.operations[operation] {
            Operation { kind: Kind::Function(function), inputs, .. }
                if *function == Function::Argument.then(Unary::Sigmoid) =>
            {
                (inputs[0], Some(Activation::Sigmoid))
            }
            _ => (operation, None),
        }
    }
}
