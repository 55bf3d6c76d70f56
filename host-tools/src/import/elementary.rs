//! From a model to elementary operations.

use std::path::Path;

use resight_model_file::Activation;
use tract_onnx::pb::ModelProto;

use super::error::ImportError;
use super::fault::ModelFault;
use super::importer::Importer;
use super::model::{Ending, Model};
use super::operation::Operation;
use super::operators;
use super::order::order;
use super::outside::Outside;
use super::preparation::Preparation;

/// The network as elementary operations, in topological order.
pub(super) struct Elementary {
    pub(super) name: String,
    pub(super) operations: Vec<Operation>,
    /// Indices of the operations whose results are the network's outputs, with their names and what
    /// the file makes of them in the end.
    pub(super) outputs: Vec<(usize, String, Option<Activation>)>,
    /// What [`Imported::proto`](super::Imported::proto) describes, but for its output.
    pub(super) proto: ModelProto,
    /// Initialisers that are not in `proto`.
    pub(super) outside: Vec<Outside>,
    pub(super) preparation: Preparation,
    pub(super) activation: Option<Activation>,
    /// Whether the file normalises the vector that it ends in; `None` of other networks.
    pub(super) normalised: Option<bool>,
}

/// Reads the nodes that the outputs depend on.
pub(super) fn elementary(
    proto: ModelProto,
    path: &Path,
    size: Option<[usize; 2]>,
    ending: Ending,
) -> Result<Elementary, ImportError> {
    let rounds = matches!(ending, Ending::Rounded(_));
    let gives_vector = matches!(ending, Ending::Vector(_));
    let refuse = |cause: ModelFault| ImportError::file(path, cause);
    let mut model = Model::new(proto, size, ending).map_err(refuse)?;
    let order = order(&model, path)?;
    let mut importer = Importer::new(&mut model, &order, path.parent().unwrap_or(Path::new("")));
    importer.rounds = rounds;
    for &index in &order {
        let node = &model.graph.node[index];
        operators::read(&mut importer, node).map_err(|cause| ImportError::node(path, node, cause))?;
    }
    let mut outputs = importer.results().map_err(refuse)?;
    let normalised = gives_vector.then(|| importer.before_norm(&mut outputs)).transpose().map_err(refuse)?;
    let name = model.name(path);
    let mut reference = importer.reference();
    let outside = std::mem::take(&mut reference.outside).into_values().collect();
    let proto = model.reference(&order, reference);
    let Importer { operations, preparation, activation, .. } = importer;
    Ok(Elementary { name, operations, outputs, proto, outside, preparation, activation, normalised })
}
