//! The f32 network run by tract: the reference for accuracy and the engine of calibration.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::model::ParseResult;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use crate::graph::Operator;
use crate::import::{Imported, Outside, OutsideError};

/// Why the f32 network cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The image does not have the network's size.
    #[error(
        "{network}: the image has {found} values where {expected:?} (channels, height, width) are needed"
    )]
    Image {
        /// The network's name.
        network: String,
        /// Values that were given.
        found: usize,
        /// `[channels, height, width]`.
        expected: [usize; 3],
    },
    /// A tensor to observe is not in the network.
    #[error("{network}: there is no tensor `{tensor}` to observe")]
    Unknown {
        /// The network's name.
        network: String,
        /// The tensor's name.
        tensor: String,
    },
    /// The network has no nodes.
    #[error("{network}: the network is empty")]
    Empty {
        /// The network's name.
        network: String,
    },
    /// A large constant cannot be read from its file.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// tract refuses the network, or fails while it runs.
    #[error("{network}: tract cannot run the f32 network: {cause}")]
    Tract {
        /// The network's name.
        network: String,
        /// What tract says, in one line.
        cause: String,
    },
}

/// A runnable f32 network. Cheap to clone; clones and references run in parallel.
#[derive(Clone)]
pub struct Reference {
    network: String,
    /// `[channels, height, width]`.
    input: [usize; 3],
    plan: Arc<TypedRunnableModel>,
    /// Position of each observed tensor among the plan's outputs, whose first is the logits;
    /// `None` for the input image.
    observed: Vec<Option<usize>>,
}

/// The results of one image.
pub struct Observation {
    outputs: TVec<TValue>,
    observed: Vec<Option<usize>>,
    image: Vec<f32>,
}

impl Reference {
    /// Prepares the network for one image at a time. `observe` are names of ONNX tensors, as in
    /// [`Node::tensor`](crate::graph::Node::tensor); repetitions are allowed.
    ///
    /// # Errors
    /// [`ReferenceError::Unknown`] for a name that the network does not have,
    /// [`ReferenceError::Tract`] where tract does not take the network.
    pub fn new(imported: &Imported, observe: &[String]) -> Result<Reference, ReferenceError> {
        let graph = &imported.graph;
        let network = graph.name.clone();
        let (Some(first), Some(last)) = (graph.nodes.first(), graph.nodes.last()) else {
            return Err(ReferenceError::Empty { network });
        };
        let (input, input_tensor) = (first.shape, first.tensor.as_str());
        debug_assert!(matches!(first.operator, Operator::Input));
        let mut outputs = vec![last.tensor.as_str()];
        let mut positions = HashMap::from([(outputs[0], 0)]);
        let mut observed = Vec::with_capacity(observe.len());
        for name in observe {
            if name == input_tensor {
                observed.push(None);
                continue;
            }
            let position = *positions.entry(name).or_insert_with(|| {
                outputs.push(name);
                outputs.len() - 1
            });
            observed.push(Some(position));
        }
        let constants = constants(&network, &imported.outside)?;
        let plan = guarded(&network, || prepare(&imported.proto, constants, input, &outputs))?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(UnknownTensor(tensor)) => return Err(ReferenceError::Unknown { network, tensor }),
        };
        Ok(Reference { network, input, plan, observed })
    }

    /// Runs the network on `image`, `[channels, height, width]`, normalised as it was trained.
    ///
    /// # Errors
    /// [`ReferenceError::Image`] for an image of another size, [`ReferenceError::Tract`] where
    /// tract fails.
    pub fn run(&self, image: &[f32]) -> Result<Observation, ReferenceError> {
        if image.len() != self.input.iter().product::<usize>() {
            return Err(ReferenceError::Image {
                network: self.network.clone(),
                found: image.len(),
                expected: self.input,
            });
        }
        let [c, h, w] = self.input;
        let outputs = guarded(&self.network, || {
            let outputs = self.plan.run(tvec!(Tensor::from_shape(&[1, c, h, w], image)?.into_tvalue()))?;
            for output in &outputs {
                output.try_as_plain_ram()?.as_slice::<f32>()?;
            }
            Ok(outputs)
        })?;
        let image = if self.observed.contains(&None) { image.to_vec() } else { Vec::new() };
        Ok(Observation { outputs, observed: self.observed.clone(), image })
    }
}

impl Observation {
    /// The values of the observed tensor at `index` of the names that were asked for,
    /// `[channels, height, width]`.
    ///
    /// # Panics
    /// Where `index` is not below the number of names.
    pub fn tensor(&self, index: usize) -> &[f32] {
        self.observed[index].map_or(&self.image, |position| self.output(position))
    }

    /// The logits, `[classes]`.
    pub fn logits(&self) -> &[f32] {
        self.output(0)
    }

    fn output(&self, position: usize) -> &[f32] {
        // `run` has checked that each is a plain f32 tensor.
        let plain = self.outputs[position].try_as_plain_ram();
        plain.and_then(|plain| plain.as_slice::<f32>()).unwrap_or_default()
    }
}

/// The f32 network with one of its tensors given from outside.
pub struct Continuation {
    network: String,
    input: [usize; 3],
    given: [usize; 3],
    plan: Arc<TypedRunnableModel>,
}

impl Continuation {
    /// The network behind the tensor `given`, an ONNX tensor of `shape` `[channels, height, width]`.
    ///
    /// # Errors
    /// As [`Reference::new`].
    pub fn new(imported: &Imported, given: &str, shape: [usize; 3]) -> Result<Self, ReferenceError> {
        let graph = &imported.graph;
        let network = graph.name.clone();
        let (Some(first), Some(last)) = (graph.nodes.first(), graph.nodes.last()) else {
            return Err(ReferenceError::Empty { network });
        };
        let constants = constants(&network, &imported.outside)?;
        let ends = (given, shape, last.tensor.as_str());
        let plan = guarded(&network, || continued(&imported.proto, constants, first.shape, ends))?;
        match plan {
            Ok(plan) => Ok(Self { network, input: first.shape, given: shape, plan }),
            Err(UnknownTensor(tensor)) => Err(ReferenceError::Unknown { network, tensor }),
        }
    }

    /// The logits for an image, `[channels, height, width]`, with these values of the given tensor,
    /// `[channels, height, width]`.
    ///
    /// # Errors
    /// As [`Reference::run`].
    pub fn logits(&self, image: &[f32], given: &[f32]) -> Result<Vec<f32>, ReferenceError> {
        let tensor = |[c, h, w]: [usize; 3], values: &[f32]| {
            TractResult::Ok(Tensor::from_shape(&[1, c, h, w], values)?.into_tvalue())
        };
        guarded(&self.network, || {
            let inputs = tvec!(tensor(self.input, image)?, tensor(self.given, given)?);
            let outputs = self.plan.run(inputs)?;
            let output = outputs.first().ok_or_else(|| TractError::msg("it has no output"))?;
            Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        })
    }
}

/// The name of a tensor that the network does not have.
struct UnknownTensor(String);

/// Builds tract's plan of what lies behind a tensor, or names the tensor that the network does not
/// have.
fn continued(
    proto: &ModelProto,
    constants: Constants,
    [c, h, w]: [usize; 3],
    (given, shape, output): (&str, [usize; 3], &str),
) -> TractResult<Result<Arc<TypedRunnableModel>, UnknownTensor>> {
    let parsed = parse(proto, constants)?;
    let mut model = parsed.model;
    let (Some(&from), Some(&to)) = (parsed.outlets_by_name.get(given), parsed.outlets_by_name.get(output))
    else {
        let missing = if parsed.outlets_by_name.contains_key(given) { output } else { given };
        return Ok(Err(UnknownTensor(missing.to_owned())));
    };
    model.set_input_fact(0, f32::fact([1, c, h, w]).into())?;
    let [c, h, w] = shape;
    let source = model.add_source("given from outside", f32::fact([1, c, h, w]).into())?;
    for reader in model.nodes[from.node].outputs[from.slot].successors.clone() {
        model.add_edge(source, reader)?;
    }
    model.select_output_outlets(&[to])?;
    Ok(Ok(model.into_optimized()?.into_runnable()?))
}

/// Initialisers that are not in the file's message, by name.
type Constants = Vec<(String, Tensor)>;

fn constants(network: &str, outside: &[Outside]) -> Result<Constants, ReferenceError> {
    let read = |outside: &Outside| {
        let mut tensor = guarded(network, || Tensor::zero::<f32>(&outside.dims))?;
        let mut plain = guarded(network, || tensor.try_as_plain_ram_mut())?;
        outside.read(guarded(network, || plain.as_slice_mut::<f32>())?)?;
        Ok((outside.name.clone(), tensor))
    };
    outside.iter().map(read).collect()
}

/// What tract makes of the file's message: an initialiser that is not in it is an input at first.
fn parse(proto: &ModelProto, constants: Constants) -> TractResult<ParseResult> {
    // Shapes stated in the file may have another batch size.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut parsed = onnx.parse(proto, None)?;
    let model = &mut parsed.model;
    for (name, tensor) in constants {
        let Some(&input) = parsed.outlets_by_name.get(&name) else { continue };
        let constant = model.add_const(format!("{name} in its file"), tensor)?;
        for reader in model.nodes[input.node].outputs[input.slot].successors.clone() {
            model.add_edge(constant, reader)?;
        }
    }
    model.inputs.truncate(1);
    Ok(parsed)
}

/// Builds tract's plan, or names the tensor that the network does not have.
fn prepare(
    proto: &ModelProto,
    constants: Constants,
    [c, h, w]: [usize; 3],
    outputs: &[&str],
) -> TractResult<Result<Arc<TypedRunnableModel>, UnknownTensor>> {
    let parsed = parse(proto, constants)?;
    let mut model = parsed.model;
    let mut outlets = Vec::with_capacity(outputs.len());
    for name in outputs {
        match parsed.outlets_by_name.get(*name) {
            Some(outlet) => outlets.push(*outlet),
            None => return Ok(Err(UnknownTensor((*name).to_owned()))),
        }
    }
    model.select_output_outlets(&outlets)?;
    model.set_input_fact(0, f32::fact([1, c, h, w]).into())?;
    Ok(Ok(model.into_optimized()?.into_runnable()?))
}

/// Turns tract's errors and panics into one-line errors.
fn guarded<T>(network: &str, run: impl FnOnce() -> TractResult<T>) -> Result<T, ReferenceError> {
    let cause = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => panic_message(panic.as_ref()),
    };
    let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(ReferenceError::Tract { network: network.into(), cause })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").into()
}
