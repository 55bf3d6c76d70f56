//! The part of a network that says what is seen at each place.

use resight_imaging::Preprocessing;
use resight_kernels::Sequential;
use resight_runtime::layers::{AveragePool, Concat, GlobalAverage};
use resight_runtime::tract::{OutletId, SpecialOps, TypedModel};
use resight_runtime::{Isa, Layers, Model, Program, Quantisation, Target, TensorFact};

use crate::backbone::quantisation;
use crate::error::TeachError;

/// Most places of a picture.
const MAX_PLACES: usize = 1 << 14;

/// A network up to its middle stages.
///
/// The last stage before the global average sees whole things rather than details, and the first ones see
/// edges: kept are the two stages before the last. The finer of the two is averaged over windows down to
/// the other's size, the other over 3 x 3 neighbours, so that a place shows its surroundings; then the
/// channels of both lie side by side.
#[derive(Debug, Clone)]
pub struct Patches {
    name: String,
    layers: Layers,
    graph: TypedModel,
    output: OutletId,
    preprocessing: Preprocessing,
    shape: [usize; 3],
    stages: Vec<usize>,
}

/// The end of a stage: the last tensor of a size that goes two ways, or the last one at all.
#[derive(Debug, Clone, Copy)]
struct Stage {
    outlet: OutletId,
    /// Height, width and channels.
    shape: [usize; 3],
    ways: usize,
}

/// The ends of the stages, from the largest size to the smallest.
fn stages(graph: &TypedModel) -> Vec<Stage> {
    let mut stages: Vec<Stage> = vec![];
    for node in graph.eval_order().unwrap_or_default() {
        let outlet = OutletId::new(node, 0);
        let node = &graph.nodes[node];
        let fact = graph.outlet_fact(outlet).ok().and_then(|fact| TensorFact::of(fact).ok());
        let Some(shape) = fact.and_then(|fact| fact.image().ok()) else { continue };
        if node.inputs.is_empty() {
            continue;
        }
        let ways = node.outputs.first().map_or(0, |output| output.successors.len()).min(2);
        let found = Stage { outlet, shape, ways };
        match stages.iter_mut().find(|stage| stage.shape[..2] == shape[..2]) {
            Some(stage) if ways >= stage.ways => *stage = found,
            Some(_) => {}
            None => stages.push(found),
        }
    }
    stages.sort_by_key(|stage| std::cmp::Reverse(stage.shape[0] * stage.shape[1]));
    stages
}

/// The average that brings `from` to `to` places along an axis: the window, its stride, and the padding
/// before and after.
fn window(from: usize, to: usize) -> Option<[usize; 4]> {
    let stride = (from + to / 2) / to.max(1);
    let kernel = if stride == 1 { 3 } else { 2 * stride };
    let padding = ((to - 1) * stride + kernel).checked_sub(from)?;
    let before = padding / 2;
    (padding - before < kernel).then_some([kernel, stride, before, padding - before])
}

impl Patches {
    /// The patches of a model file's network, for pictures that are brought to its input by
    /// `preprocessing`.
    ///
    /// # Errors
    /// A network without a global average, or without a stage before it.
    pub fn of(model: &Model, preprocessing: &Preprocessing) -> Result<Self, TeachError> {
        let name = model.name();
        let refuse = |cause: &str| TeachError::Backbone { name: name.to_owned(), cause: cause.to_owned() };
        let mut graph = model.graph().clone();
        let Some(average) = graph.nodes.iter().find(|node| node.op_is::<GlobalAverage>()) else {
            return Err(refuse(
                "it has no global average, before which the stages are looked for: give a classifier with one, such \
                 as `resight fetch resnet50-v1-12` brings",
            ));
        };
        let last = average.inputs.first().and_then(|input| graph.outlet_fact(*input).ok());
        let last = last.and_then(|fact| TensorFact::of(fact).ok()?.image().ok()).unwrap_or_default();
        let before = |stage: &Stage| stage.shape[0] * stage.shape[1] > last[0] * last[1];
        let found: Vec<Stage> = stages(&graph).into_iter().filter(before).collect();
        let chosen = &found[found.len().saturating_sub(2)..];
        let Some(&Stage { shape: [height, width, _], .. }) = chosen.last() else {
            return Err(refuse(
                "it has no stage before the last: give a network that is deeper, such as a ResNet",
            ));
        };
        if height * width > MAX_PLACES || height * width < 4 {
            return Err(refuse(&format!(
                "its middle stage has {height} x {width} places, 4 to {MAX_PLACES} are possible: give a network with \
                 another input size"
            )));
        }
        let mut outlets = vec![];
        for (index, stage) in chosen.iter().enumerate() {
            let steps = quantisation(&graph, stage.outlet).ok_or_else(|| {
                refuse("a stage of it has no scale: give a network that `resight quantize` made")
            })?;
            let (Some(vertical), Some(horizontal)) =
                (window(stage.shape[0], height), window(stage.shape[1], width))
            else {
                return Err(refuse("the sizes of its stages do not divide each other: give another network"));
            };
            let (multiplier, shift) =
                AveragePool::rescale(steps, steps).map_err(|error| refuse(&format!("{error:#}")))?;
            let pool = AveragePool {
                kernel: [vertical[0], horizontal[0]],
                stride: [vertical[1], horizontal[1]],
                padding: [vertical[2], horizontal[2], vertical[3], horizontal[3]],
                counts_padding: false,
                input_zero_point: steps.zero_point,
                multiplier,
                shift,
                output: steps,
            };
            let wired = graph.wire_node(format!("normal.average{index}"), pool, &[stage.outlet]);
            outlets.push(wired.map_err(|error| refuse(&format!("{error:#}")))?[0]);
        }
        // The unit of what lies side by side is each stage's own step: what follows has a weight for each.
        let concat = Concat { output: Quantisation { scale: 1.0, zero_point: 0 } };
        let output = graph.wire_node("normal.patches", concat, &outlets);
        let output = output.map_err(|error| refuse(&format!("{error:#}")))?[0];
        graph.select_output_outlets(&[output]).map_err(|error| refuse(&format!("{error:#}")))?;
        let channels = chosen.iter().map(|stage| stage.shape[2]).collect::<Vec<_>>();
        Ok(Self {
            name: name.to_owned(),
            layers: model.layers().clone(),
            shape: [height, width, channels.iter().sum()],
            stages: channels,
            graph,
            output,
            preprocessing: preprocessing.clone(),
        })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The layers that its graph is made of.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The graph; its output are the features of all places.
    pub fn graph(&self) -> &TypedModel {
        &self.graph
    }

    /// The features in the graph.
    pub fn output(&self) -> OutletId {
        self.output
    }

    /// How a photograph becomes the network's input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Height, width and features of the places.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// How many of the features are of each stage, in their order.
    pub fn stages(&self) -> &[usize] {
        &self.stages
    }

    /// Multiplications of one picture.
    pub fn macs(&self) -> u64 {
        let steps = Program::steps_on(&self.graph, &self.layers, Isa::Generic);
        steps.map_or(0, |steps| steps.iter().map(|step| step.macs).sum())
    }

    /// Packs it for a target.
    ///
    /// # Errors
    /// See [`Program::compile`].
    pub fn compile(&self, target: &Target) -> Result<PatchExtractor, TeachError> {
        Ok(PatchExtractor { program: Program::compile(&self.graph, &self.layers, target)? })
    }
}

/// [`Patches`] that run on one thread.
#[derive(Debug)]
pub struct PatchExtractor {
    program: Program,
}

impl PatchExtractor {
    /// The features of all places of an input, `[height][width][feature]`.
    ///
    /// # Errors
    /// An input of another size.
    pub fn features(&mut self, input: &[i8]) -> Result<Vec<i8>, TeachError> {
        let outputs = self.program.run(&Sequential, input)?;
        let features = outputs.get(0).map(|output| output.bytes.iter().map(|&byte| byte as i8).collect());
        Ok(features.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::window;

    #[test]
    fn windows_give_the_wanted_number_of_places() {
        assert_eq!(window(28, 14), Some([4, 2, 1, 1]));
        assert_eq!(window(14, 14), Some([3, 1, 1, 1]));
        for (from, to) in [(57, 29), (15, 8), (56, 14), (9, 5), (7, 4), (5, 5)] {
            let [kernel, stride, before, after] = window(from, to).unwrap();
            assert_eq!((from + before + after - kernel) / stride + 1, to, "{from} to {to}");
        }
    }
}
