//! Which results of the network are its outputs.

use resight_model_file::Activation;
use tract_onnx::pb::NodeProto;

use super::importer::Importer;
use super::value::{Axis, NCHW, Value, shown_layout};

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
    /// makes of them in the end; or the name of one that is no such result, and why.
    pub(super) fn results(&self) -> Result<Vec<Named>, (String, String)> {
        let is_map = |axis: &Axis| {
            matches!(axis, Axis::Batch | Axis::Channels | Axis::Height | Axis::Width | Axis::One)
        };
        let result = |name: &String| {
            let refuse = |cause: String| Err((name.clone(), cause));
            match self.values.get(name) {
                Some(Value::Data(data)) if data.padding != [0; 4] => {
                    refuse("is no result of the network".into())
                }
                Some(Value::Data(data)) if self.gives_maps && !data.layout.iter().all(is_map) => {
                    refuse(format!(
                        "is {} where a map of {} is needed; export the network with its last maps as outputs",
                        shown_layout(&data.layout),
                        shown_layout(&NCHW)
                    ))
                }
                Some(Value::Data(data)) => Ok((data.operation, name.clone(), None)),
                Some(Value::Probabilities(operation, activation)) => {
                    Ok((*operation, name.clone(), Some(*activation)))
                }
                _ => refuse("is no result of the network".into()),
            }
        };
        self.outputs.iter().map(result).collect()
    }
}
