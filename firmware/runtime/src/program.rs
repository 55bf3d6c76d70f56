//! A network compiled for the loop: packed kernels over one arena, nothing allocated per run.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use resight_kernels::{Isa, Parallel};
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;
use tract_nnef::internal::*;

use crate::error::RuntimeError;
use crate::operators::{Convolution, GlobalAverage, Layer, Linear, MaxPool, Packable};

/// Activations start at multiples of this, a cache line.
const ALIGNMENT: usize = 64;

/// A compiled network: runs one image at a time.
///
/// All int8 activations live in one arena, at offsets planned when it is compiled so that
/// tensors whose lifetimes do not overlap share memory.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
    input_shape: [usize; 3],
    input: Range<usize>,
    arena: Vec<i8>,
    averages: Vec<i16>,
    logits: Vec<f32>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Step {
    name: String,
    layer: Layer,
    input: Range<usize>,
    residual: Option<Range<usize>>,
    output: Range<usize>,
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
    /// Output `[height, width, channels]`.
    pub output: [usize; 3],
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Bytes of weights, before packing.
    pub weight_bytes: usize,
}

impl Program {
    /// Packs every node of `model` for `isa` and plans the memory.
    ///
    /// # Errors
    /// A node that is not an operator of resight, a graph that is not one image in and one row
    /// of logits out, or parameters that the kernels refuse; the node is named.
    pub fn compile(model: &TypedModel, isa: Isa, threads: usize) -> Result<Self, RuntimeError> {
        Self::try_compile(model, isa, threads)
            .map_err(|error| RuntimeError::Graph(format!("{:#}", anyhow_chain(&error))))
    }

    fn try_compile(model: &TypedModel, isa: Isa, threads: usize) -> TractResult<Self> {
        let (&[input], &[output]) = (model.input_outlets()?, model.output_outlets()?) else {
            bail!("a network has one input and one output");
        };
        let input_shape = activation_shape(model, input)?;
        let mut values = vec![(input, input_shape.iter().product::<usize>())];
        let mut nodes = vec![];
        for id in model.eval_order()? {
            let node = model.node(id);
            if node.op_is::<TypedSource>() || node.op_is::<Const>() {
                continue;
            }
            let context = || format!("node `{}` ({})", node.name, node.op.name());
            let shape = model.outlet_fact(node.inputs[0])?.shape.as_concrete().with_context(context)?;
            let layer = pack(node, isa, shape).with_context(context)?;
            if matches!(layer, Layer::Convolution(_) | Layer::MaxPool(_)) {
                values.push((id.into(), activation_shape(model, id.into())?.iter().product()));
            }
            nodes.push((node, layer));
        }
        ensure!(nodes.len() >= 2, "a network ends with an average and a linear layer");
        let tail = nodes.len() - 2;
        for (index, (node, layer)) in nodes.iter().enumerate() {
            let in_place = match layer {
                Layer::GlobalAverage(_) => index == tail,
                Layer::Linear(_) => index == tail + 1 && node.id == output.node,
                _ => index < tail,
            };
            ensure!(in_place, "node `{}`: a network ends with one average and one linear layer", node.name);
        }
        ensure!(nodes[tail + 1].0.inputs[0].node == nodes[tail].0.id, "the linear layer follows the average");

        let (offsets, arena) = plan(&values, &nodes.iter().map(|(node, _)| *node).collect::<Vec<_>>());
        let (mut averages, mut logits, mut scratch) = (0, 0, 0);
        let steps: Vec<Step> = nodes
            .into_iter()
            .map(|(node, layer)| {
                match &layer {
                    Layer::Convolution(layer) => scratch = scratch.max(layer.scratch_len(threads)),
                    Layer::GlobalAverage(layer) => averages = layer.input()[2],
                    Layer::Linear(layer) => logits = layer.outputs(),
                    Layer::MaxPool(_) => {}
                }
                let range = |outlet: OutletId| offsets.get(&outlet).cloned().unwrap_or(0..0);
                Step {
                    name: node.name.clone(),
                    input: range(node.inputs[0]),
                    residual: node.inputs.get(1).map(|&outlet| range(outlet)),
                    output: range(node.id.into()),
                    layer,
                }
            })
            .collect();
        Ok(Self {
            steps,
            input_shape,
            input: offsets[&input].clone(),
            arena: vec![0; arena],
            averages: vec![0; averages],
            logits: vec![0.0; logits],
            scratch: vec![0; scratch],
        })
    }

    /// The steps as a CPU with `isa` would run them, whose caches are like a small board's. The
    /// running CPU need not be able to.
    ///
    /// # Errors
    /// Those of [`compile`](Self::compile) other than of the instruction set.
    pub fn steps_on(model: &TypedModel, isa: Isa) -> Result<Vec<StepInfo>, RuntimeError> {
        let mut steps = Self::compile(model, Isa::Generic, 1)?.steps();
        let kernel = |step: &StepInfo| -> TractResult<Option<&'static str>> {
            let node = model.node_by_name(&step.name)?;
            let Some(convolution) = node.op_as::<Convolution>() else { return Ok(None) };
            let shape = model.outlet_fact(node.inputs[0])?.shape.as_concrete();
            convolution.kernel(isa, shape.context("an input of unknown shape")?).map(Some)
        };
        for step in &mut steps {
            let found = kernel(step).map_err(|error| RuntimeError::Graph(anyhow_chain(&error)))?;
            if let Some(kernel) = found {
                kernel.clone_into(&mut step.kernel);
            }
        }
        Ok(steps)
    }

    /// Input `[height, width, channels]`.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input_shape
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.logits.len()
    }

    /// Bytes of activations and scratch memory.
    pub fn working_bytes(&self) -> usize {
        self.arena.len() + self.scratch.len() + self.averages.len() * 2 + self.logits.len() * 4
    }

    /// The steps in the order in which they run.
    pub fn steps(&self) -> Vec<StepInfo> {
        self.steps.iter().map(Step::info).collect()
    }

    /// Computes the logits of one image, `input` = `[height][width][channels]`.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run(&mut self, parallel: &dyn Parallel, input: &[i8]) -> Result<&[f32], RuntimeError> {
        self.run_observed(parallel, input, |_, _| ())
    }

    /// Like [`run`](Self::run), calling `observe` with each int8 step's index and output.
    ///
    /// # Errors
    /// An input of another size.
    pub fn run_observed(
        &mut self,
        parallel: &dyn Parallel,
        input: &[i8],
        mut observe: impl FnMut(usize, &[i8]),
    ) -> Result<&[f32], RuntimeError> {
        if input.len() != self.input.len() {
            let [height, width, channels] = self.input_shape;
            return Err(RuntimeError::Graph(format!(
                "the network takes {height} x {width} x {channels} = {} values, found {}",
                self.input.len(),
                input.len()
            )));
        }
        self.arena[self.input.clone()].copy_from_slice(input);
        for index in 0..self.steps.len() {
            self.run_step(parallel, index)?;
            observe(index, &self.arena[self.steps[index].output.clone()]);
        }
        Ok(&self.logits)
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
    ) -> Result<&[f32], RuntimeError> {
        let mut last = Instant::now();
        self.run_observed(parallel, input, |index, _| {
            let now = Instant::now();
            if let Some(total) = nanoseconds.get_mut(index) {
                *total += (now - last).as_nanos() as u64;
            }
            last = now;
        })
    }

    fn run_step(&mut self, parallel: &dyn Parallel, index: usize) -> Result<(), RuntimeError> {
        let Self { steps, arena, averages, logits, scratch, .. } = self;
        let step = &steps[index];
        let result = match &step.layer {
            Layer::Convolution(layer) => {
                let (input, residual, output) = disjoint(arena, step);
                layer.run(parallel, input, residual, output, scratch)
            }
            Layer::MaxPool(layer) => {
                let (input, _, output) = disjoint(arena, step);
                layer.run(parallel, input, output)
            }
            Layer::GlobalAverage(layer) => layer.run(parallel, &arena[step.input.clone()], averages),
            Layer::Linear(layer) => layer.run(parallel, averages, logits),
        };
        result.map_err(|error| RuntimeError::Graph(format!("node `{}`: {error}", step.name)))
    }
}

impl Step {
    fn info(&self) -> StepInfo {
        let base = StepInfo {
            name: self.name.clone(),
            operator: String::new(),
            kernel: String::new(),
            output: [0; 3],
            macs: 0,
            weight_bytes: 0,
        };
        match &self.layer {
            Layer::Convolution(layer) => {
                let shape = layer.shape();
                let stride =
                    if shape.stride == [1, 1] { String::new() } else { format!("/{}", shape.stride[0]) };
                let groups = match shape.groups {
                    1 => "convolution".to_owned(),
                    _ if shape.is_depthwise() => "depthwise convolution".to_owned(),
                    groups => format!("convolution in {groups} groups"),
                };
                let residual = if self.residual.is_some() { " + residual" } else { "" };
                StepInfo {
                    operator: format!("{}x{}{stride} {groups}{residual}", shape.kernel[0], shape.kernel[1]),
                    kernel: layer.kernel().to_owned(),
                    output: shape.output(),
                    macs: shape.macs(),
                    weight_bytes: shape.weights_len(),
                    ..base
                }
            }
            Layer::MaxPool(layer) => {
                let shape = layer.shape();
                StepInfo {
                    operator: format!(
                        "{}x{}/{} maximum pool",
                        shape.kernel[0], shape.kernel[1], shape.stride[0]
                    ),
                    kernel: "max_pool".to_owned(),
                    output: shape.output(),
                    ..base
                }
            }
            Layer::GlobalAverage(layer) => StepInfo {
                operator: "global average".to_owned(),
                kernel: "global_average".to_owned(),
                output: [1, 1, layer.input()[2]],
                ..base
            },
            Layer::Linear(layer) => StepInfo {
                operator: "linear".to_owned(),
                kernel: "linear".to_owned(),
                output: [1, 1, layer.outputs()],
                macs: (layer.inputs() * layer.outputs()) as u64,
                weight_bytes: layer.inputs() * layer.outputs(),
                ..base
            },
        }
    }
}

/// The three tensors of a step; the plan keeps them from overlapping.
fn disjoint<'a>(arena: &'a mut [i8], step: &Step) -> (&'a [i8], Option<&'a [i8]>, &'a mut [i8]) {
    let (before, rest) = arena.split_at_mut(step.output.start);
    let (output, after) = rest.split_at_mut(step.output.len());
    let (before, after): (&'a [i8], &'a [i8]) = (before, after);
    let read = |range: &Range<usize>| {
        if range.start < step.output.start {
            &before[range.clone()]
        } else {
            &after[range.start - step.output.end..range.end - step.output.end]
        }
    };
    (read(&step.input), step.residual.as_ref().map(read), output)
}

fn activation_shape(model: &TypedModel, outlet: OutletId) -> TractResult<[usize; 3]> {
    let fact = model.outlet_fact(outlet)?;
    match fact.shape.as_concrete() {
        Some(&[1, height, width, channels]) if fact.datum_type == DatumType::I8 => {
            Ok([height, width, channels])
        }
        _ => bail!("`{}` is not an int8 image: {fact:?}", model.node(outlet.node).name),
    }
}

fn pack(node: &TypedNode, isa: Isa, shape: &[usize]) -> TractResult<Layer> {
    if let Some(op) = node.op_as::<Convolution>() {
        op.pack(isa, shape)
    } else if let Some(op) = node.op_as::<MaxPool>() {
        op.pack(isa, shape)
    } else if let Some(op) = node.op_as::<GlobalAverage>() {
        op.pack(isa, shape)
    } else if let Some(op) = node.op_as::<Linear>() {
        op.pack(isa, shape)
    } else {
        bail!("not an int8 operator of resight")
    }
}

/// Places every value in the arena. Values are in the order of their definition: each takes
/// the lowest gap that is free over its whole lifetime. Returns the ranges and the size.
fn plan(values: &[(OutletId, usize)], nodes: &[&TypedNode]) -> (HashMap<OutletId, Range<usize>>, usize) {
    struct Placed {
        range: Range<usize>,
        last_use: usize,
    }
    let position: HashMap<usize, usize> =
        nodes.iter().enumerate().map(|(i, node)| (node.id, i + 1)).collect();
    let mut placed: Vec<Placed> = vec![];
    let mut offsets = HashMap::new();
    let mut size = 0;
    for &(outlet, len) in values {
        let defined = position.get(&outlet.node).copied().unwrap_or(0);
        let last_use = nodes
            .iter()
            .filter(|node| node.inputs.contains(&outlet))
            .map(|node| position[&node.id])
            .max()
            .unwrap_or(defined);
        let mut live: Vec<&Range<usize>> =
            placed.iter().filter(|other| other.last_use >= defined).map(|other| &other.range).collect();
        live.sort_by_key(|range| range.start);
        let mut start = 0;
        for range in live {
            if range.start >= start + len {
                break;
            }
            start = start.max(range.end.next_multiple_of(ALIGNMENT));
        }
        let range = start..start + len;
        size = size.max(range.end);
        placed.push(Placed { range: range.clone(), last_use });
        offsets.insert(outlet, range);
    }
    (offsets, size)
}

/// The whole chain of causes on one line.
fn anyhow_chain(error: &TractError) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
