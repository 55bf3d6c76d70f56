//! A network compiled for the loop: packed layers over one arena, nothing allocated per run.

use std::collections::HashMap;
use std::time::Instant;

use resight_kernels::{CacheSizes, Isa, Parallel};
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::konst::Const;
use tract_nnef::tract_core::ops::source::TypedSource;

use crate::arena::{Lifetime, place};
use crate::error::RuntimeError;
use crate::joins::{self, Joins, Place};
use crate::layer::{Description, Layer, PackedLayer};
use crate::layers::{Layers, SideBySide};
use crate::target::Target;
use crate::tensors::{Arena, Part, TensorFact, TensorView, Value};

/// A compiled network: runs one image at a time.
///
/// All values live in one arena, at offsets planned when it is compiled so that tensors whose
/// lifetimes do not overlap share memory. The outputs keep theirs until the next run.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
    values: Vec<Value>,
    /// `[height, width, channels]` of the input, the first value.
    input_shape: [usize; 3],
    /// The values that are outputs.
    outputs: Vec<usize>,
    arena: Arena,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Step {
    name: String,
    description: Description,
    layer: Box<dyn PackedLayer>,
    /// The values that it reads.
    inputs: Vec<usize>,
    /// The value that it writes.
    output: usize,
}

/// What one step of a [`Program`] is, for people and reports.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StepInfo {
    /// The node's name.
    pub name: String,
    /// What it computes, for example `3x3/2 convolution + residual`.
    pub operator: String,
    /// The kernel chosen for it.
    pub kernel: String,
    /// Output `[height, width, channels]`; of a row of numbers, `[1, 1, numbers]`.
    pub output: [usize; 3],
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Bytes of weights, before packing.
    pub weight_bytes: usize,
}

impl StepInfo {
    fn new(name: &str, description: Description, kernel: &str, output: &TensorFact) -> Self {
        let Description { operator, macs, weight_bytes } = description;
        let (name, kernel) = (name.to_owned(), kernel.to_owned());
        Self { name, operator, kernel, output: image_shape(&output.shape), macs, weight_bytes }
    }
}

/// The outputs of a run, in the order of the graph's outputs.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a>(&'a Program);

impl<'a> Outputs<'a> {
    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.0.outputs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.outputs.is_empty()
    }

    /// An output; none of an index that is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Option<TensorView<'a>> {
        let value = &self.0.values[*self.0.outputs.get(index)?];
        Some(self.0.arena.view(value))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = TensorView<'a>> + use<'a> {
        let program = self.0;
        program.outputs.iter().map(|&value| program.arena.view(&program.values[value]))
    }
}

/// A graph as steps over values, before anything is packed or placed.
struct Wiring<'a> {
    values: Vec<TensorFact>,
    /// The step that writes each value; the input is there before the first.
    nodes: Vec<Wired<'a>>,
    outputs: Vec<usize>,
}

struct Wired<'a> {
    node: &'a TypedNode,
    layer: &'a dyn Layer,
    inputs: Vec<usize>,
}

impl<'a> Wiring<'a> {
    /// Values are numbered in the order of their definition: the input is 0, the output of step
    /// `i` is `i + 1`.
    fn of(graph: &'a TypedModel, layers: &Layers) -> TractResult<Self> {
        let &[input] = graph.input_outlets()? else { bail!("a network has one input") };
        let fact = TensorFact::of(graph.outlet_fact(input)?)?;
        ensure!(
            matches!((fact.datum_type, &*fact.shape), (DatumType::I8, [1, _, _, _])),
            "`{}` is not an int8 image: {fact:?}",
            graph.node(input.node).name
        );
        let mut numbers = HashMap::from([(input, 0)]);
        let mut wiring = Self { values: vec![fact], nodes: vec![], outputs: vec![] };
        for id in graph.eval_order()? {
            let node = graph.node(id);
            if node.op_is::<TypedSource>() || node.op_is::<Const>() {
                continue;
            }
            let wired = wiring.wire(node, layers, &numbers);
            let (wired, output) =
                wired.with_context(|| format!("node `{}` ({})", node.name, node.op.name()))?;
            numbers.insert(id.into(), wiring.values.len());
            wiring.nodes.push(wired);
            wiring.values.push(output);
        }
        for outlet in graph.output_outlets()? {
            let number = numbers.get(outlet).filter(|&&number| number != 0);
            let node = &graph.node(outlet.node).name;
            wiring
                .outputs
                .push(*number.with_context(|| format!("the output `{node}` is computed by no layer"))?);
        }
        ensure!(!wiring.outputs.is_empty(), "a network has at least one output");
        Ok(wiring)
    }

    fn wire(
        &self,
        node: &'a TypedNode,
        layers: &Layers,
        numbers: &HashMap<OutletId, usize>,
    ) -> TractResult<(Wired<'a>, TensorFact)> {
        let layer = layers.of(node).context("not an int8 operator of resight")?;
        let number = |outlet| numbers.get(outlet).copied().context("an input of it is computed by no layer");
        let inputs: Vec<usize> = node.inputs.iter().map(number).collect::<TractResult<_>>()?;
        let wired = Wired { node, layer, inputs };
        let output = layer.output(&self.inputs(&wired))?;
        ensure!(!output.is_empty(), "its output of shape {:?} is empty", output.shape);
        Ok((wired, output))
    }

    fn inputs(&self, wired: &Wired<'_>) -> Vec<TensorFact> {
        wired.inputs.iter().map(|&value| self.values[value].clone()).collect()
    }

    /// Refuses what no board would finish, before weights are packed and memory is taken.
    fn check_work(&self) -> TractResult<()> {
        let mut work = 0_u64;
        for wired in &self.nodes {
            work = work.saturating_add(wired.layer.work(&self.inputs(wired))?);
        }
        let largest = self.values.iter().map(TensorFact::bytes).max().unwrap_or(0);
        within_limits(work, largest)
    }

    /// What is written where a concatenation has it.
    fn joins(&self) -> Joins {
        let node = |wired: &Wired<'_>| joins::Node {
            inputs: wired.inputs.clone(),
            concatenates: wired.layer.concatenates(),
            takes_strides: wired.layer.takes_strides(),
        };
        let nodes: Vec<joins::Node> = self.nodes.iter().map(node).collect();
        let channels: Vec<usize> = self.values.iter().map(|fact| image_shape(&fact.shape)[2]).collect();
        joins::plan(&nodes, &channels, &self.outputs)
    }

    /// Packs a step, of which the inputs that are in `copies` are left to do if it is a concatenation.
    fn pack(
        &self,
        wired: &Wired<'_>,
        target: &Target,
        copies: &[usize],
    ) -> TractResult<Box<dyn PackedLayer>> {
        let facts = self.inputs(wired);
        if wired.layer.concatenates() {
            return Ok(Box::new(SideBySide::new(target, &facts, copies)?));
        }
        wired.layer.pack(target, &facts)
    }

    /// Places the values in an arena, of which the size is returned too.
    fn place(&self, joins: &Joins) -> (Vec<Value>, usize) {
        let mut lifetimes = self.lifetimes();
        for (value, place) in joins.places.iter().enumerate() {
            let Some(Place { whole, .. }) = *place else { continue };
            let part = lifetimes[value];
            lifetimes[whole].defined = lifetimes[whole].defined.min(part.defined);
            lifetimes[whole].last_use = lifetimes[whole].last_use.max(part.last_use);
        }
        // A copy is there as soon as the first step needs it.
        for (step, copies) in joins.copies.iter().enumerate() {
            if let (false, Some(Place { whole, .. })) = (copies.is_empty(), joins.places[step + 1]) {
                lifetimes[whole].defined = lifetimes[whole].defined.min(step + 1);
            }
        }
        let mut order: Vec<usize> =
            (0..lifetimes.len()).filter(|&value| joins.places[value].is_none()).collect();
        order.sort_by_key(|&value| lifetimes[value].defined);
        let (placed, arena) = place(&order.iter().map(|&value| lifetimes[value]).collect::<Vec<_>>());
        let mut ranges = vec![0..0; lifetimes.len()];
        for (value, range) in order.into_iter().zip(placed) {
            ranges[value] = range;
        }
        let value = |(value, fact): (usize, &TensorFact)| {
            let place = joins.places[value];
            let part = place.map(|Place { whole, first }| Part {
                first,
                stride: image_shape(&self.values[whole].shape)[2],
            });
            let range = ranges[place.map_or(value, |place| place.whole)].clone();
            Value { fact: fact.clone(), range, part }
        };
        (self.values.iter().enumerate().map(value).collect(), arena)
    }

    /// When each value lives.
    fn lifetimes(&self) -> Vec<Lifetime> {
        let mut lifetimes: Vec<Lifetime> = self
            .values
            .iter()
            .enumerate()
            .map(|(defined, fact)| Lifetime { bytes: fact.bytes(), defined, last_use: defined })
            .collect();
        for (step, wired) in self.nodes.iter().enumerate() {
            for &value in &wired.inputs {
                lifetimes[value].last_use = step + 1;
            }
        }
        for &value in &self.outputs {
            lifetimes[value].last_use = usize::MAX;
        }
        lifetimes
    }
}

/// Most multiplications and comparisons of a network: a ResNet-152 takes 2^33.5 for 224 x 224 pixels, and 2^39 for
/// 1500 x 1500.
const MAX_WORK: u64 = 1 << 41;

/// Largest tensor between layers, in bytes.
const MAX_TENSOR: usize = 256 << 20;

fn within_limits(work: u64, largest: usize) -> TractResult<()> {
    ensure!(work <= MAX_WORK, "{work} multiplications and comparisons; a network of up to {MAX_WORK} is run");
    ensure!(
        largest <= MAX_TENSOR,
        "a tensor of {largest} bytes between its layers; up to {MAX_TENSOR} are taken"
    );
    Ok(())
}

/// `[height, width, channels]` of a shape whose first dimension is the batch; missing ones are 1
/// and surplus ones count as height.
fn image_shape(shape: &[usize]) -> [usize; 3] {
    match shape {
        [] => [1, 1, 1],
        [_, rest @ ..] => match *rest {
            [] => [1, 1, 1],
            [channels] => [1, 1, channels],
            [width, channels] => [1, width, channels],
            [ref height @ .., width, channels] => [height.iter().product(), width, channels],
        },
    }
}

impl Program {
    /// Packs every node of `graph` for `target` and plans the memory.
    ///
    /// # Errors
    /// A node that is none of `layers`, a graph whose only input is not an int8 image, or
    /// parameters that the kernels refuse; the node is named.
    pub fn compile(graph: &TypedModel, layers: &Layers, target: &Target) -> Result<Self, RuntimeError> {
        Self::try_compile(graph, layers, target).map_err(|error| graph_error(&error))
    }

    fn try_compile(graph: &TypedModel, layers: &Layers, target: &Target) -> TractResult<Self> {
        let wiring = Wiring::of(graph, layers)?;
        wiring.check_work()?;
        let joins = wiring.joins();
        let (mut steps, mut scratch) = (vec![], 0);
        for (index, wired) in wiring.nodes.iter().enumerate() {
            let context = || format!("node `{}` ({})", wired.node.name, wired.node.op.name());
            let layer = wiring.pack(wired, target, &joins.copies[index]).with_context(context)?;
            scratch = scratch.max(layer.scratch_len(target.threads));
            steps.push(Step {
                name: wired.node.name.clone(),
                description: wired.layer.describe(&wiring.inputs(wired)).with_context(context)?,
                layer,
                inputs: wired.inputs.clone(),
                output: index + 1,
            });
        }
        let (values, arena) = wiring.place(&joins);
        Ok(Self {
            steps,
            input_shape: image_shape(&wiring.values[0].shape),
            values,
            outputs: wiring.outputs,
            arena: Arena::new(arena),
            scratch: vec![0; scratch],
        })
    }

    /// The steps as a CPU with `isa` would run them, whose caches are like a small board's. The
    /// running CPU need not be able to.
    ///
    /// # Errors
    /// Those of [`compile`](Self::compile) other than of the instruction set.
    pub fn steps_on(graph: &TypedModel, layers: &Layers, isa: Isa) -> Result<Vec<StepInfo>, RuntimeError> {
        let steps = || -> TractResult<Vec<StepInfo>> {
            let wiring = Wiring::of(graph, layers)?;
            let step = |(index, wired): (usize, &Wired<'_>)| {
                let facts = wiring.inputs(wired);
                let kernel = wired.layer.kernel(isa, CacheSizes::default(), &facts);
                let kernel = kernel.with_context(|| format!("node `{}`", wired.node.name))?;
                let description = wired.layer.describe(&facts)?;
                Ok(StepInfo::new(&wired.node.name, description, kernel, &wiring.values[index + 1]))
            };
            wiring.nodes.iter().enumerate().map(step).collect()
        };
        steps().map_err(|error| graph_error(&error))
    }

    /// Input `[height, width, channels]`.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input_shape
    }

    /// What the outputs are, in the order of the graph's outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &TensorFact> {
        self.outputs.iter().map(|&value| &self.values[value].fact)
    }

    /// What the last run gave; before the first, zeros.
    pub fn last(&self) -> Outputs<'_> {
        Outputs(self)
    }

    /// Bytes of activations and scratch memory.
    pub fn working_bytes(&self) -> usize {
        self.arena.len() + self.scratch.len()
    }

    /// The steps in the order in which they run.
    pub fn steps(&self) -> Vec<StepInfo> {
        let info = |step: &Step| {
            let output = &self.values[step.output].fact;
            StepInfo::new(&step.name, step.description.clone(), step.layer.kernel(), output)
        };
        self.steps.iter().map(info).collect()
    }

    /// Computes the outputs for one image, `input` = `[height][width][channels]`.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run(&mut self, parallel: &dyn Parallel, input: &[i8]) -> Result<Outputs<'_>, RuntimeError> {
        self.run_steps(parallel, input, |_, _, _| ())
    }

    /// Like [`run`](Self::run), calling `observe` with each step's index and output. Outputs that are part
    /// of other values are copied for it.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run_observed(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        mut observe: impl FnMut(usize, TensorView<'_>),
    ) -> Result<Outputs<'_>, RuntimeError> {
        self.run_steps(parallel, input, |index, arena, value| match value.part {
            None => observe(index, arena.view(value)),
            Some(part) => {
                let TensorFact { datum_type, ref shape } = value.fact;
                observe(index, TensorView { datum_type, shape, bytes: &arena.gather(value, part) });
            }
        })
    }

    /// Like [`run`](Self::run), calling `done` with the index of each step after it.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run_stepwise(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        mut done: impl FnMut(usize),
    ) -> Result<Outputs<'_>, RuntimeError> {
        self.run_steps(parallel, input, |index, _, _| done(index))
    }

    fn run_steps(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        mut done: impl FnMut(usize, &Arena, &Value),
    ) -> Result<Outputs<'_>, RuntimeError> {
        let expected = self.values[0].fact.len();
        if input.len() != expected {
            let [height, width, channels] = self.input_shape;
            return Err(RuntimeError::Graph(format!(
                "the network takes {height} x {width} x {channels} = {expected} values, found {}",
                input.len()
            )));
        }
        self.arena.bytes_mut(&self.values[0]).copy_from_slice(bytemuck::cast_slice(input));
        let Self { steps, values, arena, scratch, .. } = self;
        for (index, step) in steps.iter().enumerate() {
            let (inputs, output) = arena.step(values, &step.inputs, step.output);
            step.layer
                .run(parallel, inputs, output, scratch)
                .map_err(|error| RuntimeError::Graph(format!("node `{}`: {error}", step.name)))?;
            done(index, arena, &values[step.output]);
        }
        Ok(Outputs(self))
    }

    /// Like [`run`](Self::run), adding each step's nanoseconds to `nanoseconds`.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run_timed(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        nanoseconds: &mut [u64],
    ) -> Result<Outputs<'_>, RuntimeError> {
        let mut last = Instant::now();
        self.run_stepwise(parallel, input, |index| {
            let now = Instant::now();
            if let Some(total) = nanoseconds.get_mut(index) {
                *total += (now - last).as_nanos() as u64;
            }
            last = now;
        })
    }
}

/// The whole chain of causes on one line.
fn graph_error(error: &TractError) -> RuntimeError {
    RuntimeError::Graph(error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

#[cfg(test)]
mod tests {
    use super::{MAX_TENSOR, MAX_WORK, image_shape, within_limits};

    #[test]
    fn work_without_end_is_refused() {
        within_limits(MAX_WORK, MAX_TENSOR).unwrap();
        let error = within_limits(MAX_WORK + 1, 0).unwrap_err().to_string();
        assert!(error.starts_with("2199023255553 multiplications"), "{error}");
        let error = within_limits(0, MAX_TENSOR + 1).unwrap_err().to_string();
        assert!(error.starts_with("a tensor of 268435457 bytes"), "{error}");
    }

    #[test]
    fn shapes_are_shown_as_images() {
        assert_eq!(image_shape(&[1, 5, 6, 7]), [5, 6, 7]);
        assert_eq!(image_shape(&[1, 7]), [1, 1, 7]);
        assert_eq!(image_shape(&[1, 6, 7]), [1, 6, 7]);
        assert_eq!(image_shape(&[1, 2, 5, 6, 7]), [10, 6, 7]);
        assert_eq!((image_shape(&[1]), image_shape(&[])), ([1, 1, 1], [1, 1, 1]));
    }
}
