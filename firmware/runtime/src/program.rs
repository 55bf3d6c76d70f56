//! A network compiled for the loop: packed layers over one arena, nothing allocated per run.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use resight_kernels::{CacheSizes, Isa, Parallel};
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::konst::Const;
use tract_nnef::tract_core::ops::source::TypedSource;

use crate::arena::{Lifetime, Piece, place};
use crate::bands::{Job, Link, reads, schedule, uses, whole_layers};
use crate::error::RuntimeError;
use crate::layer::{Description, Layer, PackedLayer};
use crate::layers::Layers;
use crate::target::Target;
use crate::tensors::{Arena, TensorFact, TensorView, Value};

/// A compiled network: runs one image at a time.
///
/// All values live in one arena, at offsets planned when it is compiled so that tensors whose
/// lifetimes do not overlap share memory. The outputs keep theirs until the next run.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
    /// What is run, in its order: whole steps, or bands of them.
    runs: Vec<Run>,
    /// Those of the network, and behind them the bands of them that runs read and write.
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
    kernel: &'static str,
    /// The value that it writes.
    output: usize,
}

#[derive(Debug)]
struct Run {
    /// The step of which it is all or a part.
    step: usize,
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

    fn links<'b>(&'b self, steps: &[Step], layers: &'b [Box<dyn PackedLayer>]) -> Vec<Link<'b>> {
        let link = |index: usize| Link {
            layer: &*layers[index],
            inputs: &self.nodes[index].inputs,
            weights: steps[index].description.weight_bytes,
            output: steps[index].output,
        };
        (0..layers.len()).map(link).collect()
    }

    /// The packed layers, or bands of them, over the values; appends to these the bands that are read and
    /// written.
    fn runs(
        &self,
        steps: &[Step],
        layers: Vec<Box<dyn PackedLayer>>,
        jobs: &[Job],
        values: &mut Vec<Value>,
    ) -> TractResult<Vec<Run>> {
        let links = self.links(steps, &layers);
        let mut bands = vec![];
        for job in jobs {
            let Some(rows) = &job.rows else { continue };
            let layer = links[job.step].layer.band(rows.clone());
            let layer = layer.with_context(|| format!("node `{}` has no band", steps[job.step].name))?;
            let mut part = |value: usize, rows: Option<Range<usize>>| {
                let Some(rows) = rows else { return value };
                values.push(values[value].rows(rows));
                values.len() - 1
            };
            let read = reads(&links, &self.values, job);
            let inputs = read.into_iter().map(|(value, rows)| part(value, rows)).collect();
            let output = part(steps[job.step].output, Some(rows.clone()));
            bands.push(Run { step: job.step, layer, inputs, output });
        }
        drop(links);
        let mut bands = bands.into_iter();
        let mut whole = layers.into_iter().enumerate();
        let run = |job: &Job| {
            if job.rows.is_some() {
                return bands.next();
            }
            // Whole layers are in the order of the steps.
            let (step, layer) = whole.find(|(step, _)| *step == job.step)?;
            Some(Run { step, layer, inputs: self.nodes[step].inputs.clone(), output: steps[step].output })
        };
        Ok(jobs.iter().filter_map(run).collect())
    }

    /// When each value lives, if these jobs run.
    fn lifetimes(&self, links: &[Link<'_>], jobs: &[Job]) -> Vec<Lifetime> {
        let lifetime = |(index, mut pieces): (usize, Vec<Piece>)| {
            // The image is there before the first job, outputs stay.
            if self.outputs.contains(&index) {
                pieces.iter_mut().for_each(|piece| piece.last_use = usize::MAX);
            } else if index == 0 {
                pieces.iter_mut().for_each(|piece| piece.defined = 0);
            }
            let replaces = index.checked_sub(1).and_then(|step| {
                let (layer, inputs) = (links[step].layer, links[step].inputs);
                let value = inputs[layer.overwrites()?];
                let once = inputs.iter().filter(|&&other| other == value).count() == 1;
                (once && self.values[value] == self.values[index] && !self.outputs.contains(&value))
                    .then_some(value)
            });
            Lifetime { bytes: self.values[index].bytes(), pieces, replaces }
        };
        uses(links, &self.values, jobs).into_iter().enumerate().map(lifetime).collect()
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
        let caches = target.caches;
        if target.bands {
            Self::compile_jobs(graph, layers, target, &|links, facts| schedule(links, facts, caches))
        } else {
            Self::compile_jobs(graph, layers, target, &|links, _| whole_layers(links))
        }
    }

    /// Compiles for the runs that `jobs` makes of the packed layers and the values.
    pub(crate) fn compile_jobs(
        graph: &TypedModel,
        layers: &Layers,
        target: &Target,
        jobs: &dyn Fn(&[Link<'_>], &[TensorFact]) -> Vec<Job>,
    ) -> Result<Self, RuntimeError> {
        Self::try_compile(graph, layers, target, jobs).map_err(|error| graph_error(&error))
    }

    fn try_compile(
        graph: &TypedModel,
        layers: &Layers,
        target: &Target,
        jobs: &dyn Fn(&[Link<'_>], &[TensorFact]) -> Vec<Job>,
    ) -> TractResult<Self> {
        let wiring = Wiring::of(graph, layers)?;
        wiring.check_work()?;
        let (mut steps, mut layers) = (vec![], vec![]);
        for (index, wired) in wiring.nodes.iter().enumerate() {
            let context = || format!("node `{}` ({})", wired.node.name, wired.node.op.name());
            let facts = wiring.inputs(wired);
            let layer = wired.layer.pack(target, &facts).with_context(context)?;
            steps.push(Step {
                name: wired.node.name.clone(),
                description: wired.layer.describe(&facts).with_context(context)?,
                kernel: layer.kernel(),
                output: index + 1,
            });
            layers.push(layer);
        }
        let jobs = jobs(&wiring.links(&steps, &layers), &wiring.values);
        let (ranges, arena) = place(&wiring.lifetimes(&wiring.links(&steps, &layers), &jobs));
        let placed = wiring.values.iter().cloned().zip(ranges);
        let mut values: Vec<Value> = placed.map(|(fact, range)| Value { fact, range }).collect();
        let runs = wiring.runs(&steps, layers, &jobs, &mut values)?;
        let scratch = runs.iter().map(|run| run.layer.scratch_len(target.threads)).max().unwrap_or(0);
        Ok(Self {
            steps,
            runs,
            input_shape: image_shape(&values[0].fact.shape),
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

    /// Runs of layers, or of bands of them, that an inference is.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Bytes of activations and scratch memory.
    pub fn working_bytes(&self) -> usize {
        self.arena.len() + self.scratch.len()
    }

    /// The steps in the order in which they run.
    pub fn steps(&self) -> Vec<StepInfo> {
        let info = |step: &Step| {
            let output = &self.values[step.output].fact;
            StepInfo::new(&step.name, step.description.clone(), step.kernel, output)
        };
        self.steps.iter().map(info).collect()
    }

    /// Computes the outputs for one image, `input` = `[height][width][channels]`.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run(&mut self, parallel: &dyn Parallel, input: &[i8]) -> Result<Outputs<'_>, RuntimeError> {
        self.run_announced(parallel, input, |_| ())
    }

    /// Like [`run`](Self::run), calling `observe` with each step's index and output.
    ///
    /// # Errors
    /// An input of another size; a program whose layers run in bands, which
    /// [`Target::with_whole_layers`] prevents.
    pub fn run_observed(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        observe: impl FnMut(usize, TensorView<'_>),
    ) -> Result<Outputs<'_>, RuntimeError> {
        if self.runs.len() > self.steps.len() {
            return Err(RuntimeError::Graph(
                "layers that run in bands have no whole outputs to observe; compile the network for a target \
                 with whole layers"
                    .into(),
            ));
        }
        self.run_all(parallel, input, |_| (), observe)
    }

    /// Like [`run`](Self::run), calling `announce` with a step's index before the step, or a band of it, runs.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run_announced(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        announce: impl FnMut(usize),
    ) -> Result<Outputs<'_>, RuntimeError> {
        self.run_all(parallel, input, announce, |_, _| ())
    }

    fn run_all(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        mut announce: impl FnMut(usize),
        mut observe: impl FnMut(usize, TensorView<'_>),
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
        let Self { steps, runs, values, arena, scratch, .. } = self;
        for run in runs {
            announce(run.step);
            let (inputs, output) = arena.step(values, &run.inputs, run.output);
            run.layer
                .run(parallel, inputs, output, scratch)
                .map_err(|error| RuntimeError::Graph(format!("node `{}`: {error}", steps[run.step].name)))?;
            observe(run.step, arena.view(&values[run.output]));
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
        // Before the first step the image is copied.
        let mut last = (0, Instant::now());
        let mut end = |next: usize| {
            let now = Instant::now();
            if let Some(total) = nanoseconds.get_mut(last.0) {
                *total += (now - last.1).as_nanos() as u64;
            }
            last = (next, now);
        };
        let outputs = self.run_announced(parallel, input, &mut end)?;
        end(0);
        Ok(outputs)
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
