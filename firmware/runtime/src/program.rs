//! A network compiled for the loop: packed layers over one arena, nothing allocated per run.

use std::time::Instant;

use resight_kernels::{CacheSizes, Isa, Parallel};
use tract_nnef::internal::*;

use crate::bands::{Scheduling, schedule, whole_layers};
use crate::error::RuntimeError;
use crate::layer::Description;
use crate::layers::Layers;
use crate::target::Target;
use crate::tensors::{Arena, TensorFact, TensorView, Value};
use crate::wiring::{Run, Wired, Wiring, image_shape};

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

impl Program {
    /// Packs every node of `graph` for `target` and plans the memory.
    ///
    /// # Errors
    /// A node that is none of `layers`, a graph whose only input is not an int8 image, or
    /// parameters that the kernels refuse; the node is named.
    pub fn compile(graph: &TypedModel, layers: &Layers, target: &Target) -> Result<Self, RuntimeError> {
        let caches = target.caches;
        if target.bands && target.threads == 1 {
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
        jobs: Scheduling<'_>,
    ) -> Result<Self, RuntimeError> {
        Self::try_compile(graph, layers, target, jobs).map_err(|error| graph_error(&error))
    }

    fn try_compile(
        graph: &TypedModel,
        layers: &Layers,
        target: &Target,
        jobs: Scheduling<'_>,
    ) -> TractResult<Self> {
        let wiring = Wiring::of(graph, layers)?;
        wiring.check_work()?;
        let joins = wiring.joins();
        let (mut descriptions, mut layers) = (vec![], vec![]);
        for (wired, copies) in wiring.nodes.iter().zip(&joins.copies) {
            let context = || format!("node `{}` ({})", wired.node.name, wired.node.op.name());
            layers.push(wiring.pack(wired, target, copies).with_context(context)?);
            descriptions.push(wired.layer.describe(&wiring.inputs(wired)).with_context(context)?);
        }
        let jobs = jobs(&wiring.links(&descriptions, &layers), &wiring.values);
        let (mut values, arena) = wiring.place(&wiring.links(&descriptions, &layers), &joins, &jobs);
        let kernels: Vec<&'static str> = layers.iter().map(|layer| layer.kernel()).collect();
        let runs = wiring.runs(&descriptions, layers, &jobs, &mut values)?;
        let scratch = runs.iter().map(|run| run.layer.scratch_len(target.threads)).max().unwrap_or(0);
        let step = |(index, (description, kernel)): (usize, (Description, &'static str))| {
            let name = wiring.nodes[index].node.name.clone();
            Step { name, description, kernel, output: index + 1 }
        };
        Ok(Self {
            steps: descriptions.into_iter().zip(kernels).enumerate().map(step).collect(),
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

    /// Like [`run`](Self::run), calling `observe` with each step's index and output. Outputs that are part
    /// of other values are copied for it.
    ///
    /// # Errors
    /// An input of another size; a program whose layers run in bands, which
    /// [`Target::with_whole_layers`] prevents.
    pub fn run_observed(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        mut observe: impl FnMut(usize, TensorView<'_>),
    ) -> Result<Outputs<'_>, RuntimeError> {
        if self.runs.len() > self.steps.len() {
            return Err(RuntimeError::Graph(
                "layers that run in bands have no whole outputs to observe; compile the network for a target \
                 with whole layers"
                    .into(),
            ));
        }
        let observed = |step: usize, arena: &Arena, value: &Value| match value.part {
            None => observe(step, arena.view(value)),
            Some(part) => {
                let TensorFact { datum_type, ref shape } = value.fact;
                observe(step, TensorView { datum_type, shape, bytes: &arena.gather(value, part) });
            }
        };
        self.run_all(parallel, input, |_| (), observed)
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
        self.run_all(parallel, input, announce, |_, _, _| ())
    }

    fn run_all(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        mut announce: impl FnMut(usize),
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
        let Self { steps, runs, values, arena, scratch, .. } = self;
        for run in runs {
            announce(run.step);
            let (inputs, output) = arena.step(values, &run.inputs, run.output);
            run.layer
                .run(parallel, inputs, output, scratch)
                .map_err(|error| RuntimeError::Graph(format!("node `{}`: {error}", steps[run.step].name)))?;
            done(run.step, arena, &values[run.output]);
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
