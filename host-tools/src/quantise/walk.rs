//! Walks through the int8 network layer by layer, with the tensors of all images: each layer can be
//! looked at when those before it are final, and nothing is computed twice but within a block.

use rayon::prelude::*;
use resight_kernels::Sequential;
use resight_runtime::{Layers, Program, Target};

use super::calibrate::Calibration;
use super::error::QuantiseError;
use super::graph::QuantisationGraph;
use super::lower::lower_part;
use crate::graph::{FloatGraph, NodeId};

/// Bytes of the tensors that are kept between layers: 256 MB.
const KEPT_BYTES: usize = 256 << 20;

/// Where the walk is.
pub struct Walk {
    target: Target,
    /// Nodes after which nothing reads what was computed before them.
    cuts: Vec<NodeId>,
    /// The node whose outputs are kept.
    at: NodeId,
    /// Its outputs by image, `[height][width][channels]`.
    tensors: Vec<Vec<i8>>,
}

/// The nodes after which nothing reads what was computed before them.
pub fn cuts(float: &FloatGraph) -> Vec<NodeId> {
    let mut last_use = vec![0; float.nodes.len()];
    for (id, node) in float.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&input| last_use[input] = id);
    }
    (0..float.nodes.len()).filter(|&id| last_use[..id].iter().all(|&last| last <= id)).collect()
}

/// Which images the walk takes with it, as indices into [`Calibration::images`], by content: all,
/// or as many as are kept in memory, evenly chosen.
pub fn images(float: &FloatGraph, calibration: &Calibration<'_>) -> Vec<usize> {
    let bytes = |&id: &NodeId| float.nodes[id].shape.iter().product::<usize>();
    let largest = cuts(float).iter().map(bytes).max().unwrap_or(1).max(1);
    let all = &calibration.by_content;
    let count = (KEPT_BYTES / largest).clamp(1, all.len().max(1));
    (0..count.min(all.len())).map(|index| all[index * all.len() / count]).collect()
}

impl Walk {
    /// Before the first layer.
    ///
    /// # Errors
    /// Images that cannot be read.
    pub fn new(
        graph: &QuantisationGraph<'_>,
        calibration: &Calibration<'_>,
        images: &[usize],
    ) -> Result<Self, QuantiseError> {
        let load = |&image: &usize| Ok(calibration.load(&calibration.images[image])?.quantised);
        let tensors = images.par_iter().map(load).collect::<Result<_, QuantiseError>>()?;
        Ok(Self { target: Target::of_this_machine()?, cuts: cuts(graph.float), at: 0, tensors })
    }

    /// Goes as far as the nodes `wanted` allow, whose earlier layers must be final.
    ///
    /// # Errors
    /// Networks that cannot be run.
    pub fn advance(&mut self, graph: &QuantisationGraph<'_>, wanted: &[NodeId]) -> Result<(), QuantiseError> {
        let least = wanted.iter().copied().min().unwrap_or(self.at);
        let Some(&next) = self.cuts.iter().rev().find(|&&cut| cut <= least) else { return Ok(()) };
        if next > self.at {
            self.tensors = self.look(graph, &[next], |_, tensors| tensors[0].to_vec())?;
            self.at = next;
        }
        Ok(())
    }

    /// Calls `look` with each image's index and the outputs of the nodes `wanted`.
    ///
    /// # Errors
    /// Networks that cannot be run.
    pub fn look<T: Send>(
        &self,
        graph: &QuantisationGraph<'_>,
        wanted: &[NodeId],
        look: impl Fn(usize, &[&[i8]]) -> T + Sync,
    ) -> Result<Vec<T>, QuantiseError> {
        let mut computed: Vec<NodeId> = wanted.iter().copied().filter(|&id| id != self.at).collect();
        computed.sort_unstable();
        computed.dedup();
        if computed.is_empty() {
            let all = self.tensors.par_iter().enumerate();
            return Ok(all
                .map(|(index, tensor)| look(index, &vec![tensor.as_slice(); wanted.len()]))
                .collect());
        }
        let model = lower_part(graph, self.at, &computed)?;
        self.tensors
            .par_iter()
            .enumerate()
            .with_min_len(graph.images_of_a_program(self.tensors.len()))
            .map_init(
                || Program::compile(&model, &Layers::default(), &self.target),
                |program, (index, tensor)| {
                    let program =
                        program.as_mut().map_err(|error| QuantiseError::Graph(error.to_string()))?;
                    let outputs = program.run(&Sequential, tensor)?;
                    let mut tensors: Vec<&[i8]> = Vec::with_capacity(wanted.len());
                    for id in wanted {
                        let Ok(place) = computed.binary_search(id) else {
                            tensors.push(tensor);
                            continue;
                        };
                        let view = outputs.iter().nth(place);
                        let values = view.and_then(|view| view.slice().ok());
                        tensors.push(values.ok_or_else(|| {
                            QuantiseError::Graph(format!(
                                "`{}` gives no int8 tensor",
                                graph.annotations[*id].name
                            ))
                        })?);
                    }
                    Ok(look(index, &tensors))
                },
            )
            .collect()
    }
}
