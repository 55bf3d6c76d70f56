//! A model file as a whole: loading, checking, compiling, writing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use resight_base::files::FileError;
use resight_imaging::Preprocessing;
use resight_kernels::{Isa, Parallel};
use resight_model_file::{Archive, ArchiveBuilder, Expected, Golden, Labels, Provenance, PublicKey, Task};
use tract_nnef::internal::*;

use crate::error::{ModelCause, RuntimeError};
use crate::heads::Head;
use crate::layers::Layers;
use crate::program::{Outputs, Program, StepInfo};
use crate::target::Target;
use crate::tensors::TensorFact;

/// The program that writes model files, with its version.
const TOOL: &str = concat!("resight ", env!("CARGO_PKG_VERSION"));

/// A checked model file: the graph and everything that travels with it.
#[derive(Debug)]
pub struct Model {
    file: String,
    name: String,
    layers: Layers,
    graph: TypedModel,
    head: Head,
    labels: Labels,
    preprocessing: Preprocessing,
    provenance: Provenance,
    report: serde_json::Value,
    golden: Vec<Golden>,
    signer: Option<PublicKey>,
}

/// What a model file is written from.
#[derive(Debug)]
pub struct ModelParts<'a> {
    /// The network's name.
    pub name: &'a str,
    /// The layers of the graph.
    pub layers: &'a Layers,
    /// The int8 graph.
    pub graph: &'a TypedModel,
    /// What its outputs mean.
    pub task: Task,
    /// One label per class.
    pub labels: &'a Labels,
    /// How an image becomes the network's input.
    pub preprocessing: &'a Preprocessing,
    /// Where it came from.
    pub provenance: &'a Provenance,
    /// The quantisation report.
    pub report: &'a serde_json::Value,
    /// What it must compute.
    pub golden: &'a [Golden],
}

impl ModelParts<'_> {
    /// Writes the model file atomically; identical parts give identical bytes.
    ///
    /// # Errors
    /// A graph that cannot be written as NNEF, or a file that cannot be written; then nothing
    /// is left behind.
    pub fn write(&self, path: &Path) -> Result<(), RuntimeError> {
        Ok(self.archive()?.write(path)?)
    }

    /// The bytes of the model file.
    ///
    /// # Errors
    /// A graph that cannot be written as NNEF.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RuntimeError> {
        Ok(self.archive()?.to_bytes()?)
    }

    fn archive(&self) -> Result<ArchiveBuilder, RuntimeError> {
        let tar = self
            .layers
            .framework()
            .write_to_tar_with_config(self.graph, vec![], false, true)
            .map_err(|error| RuntimeError::Graph(format!("writing the graph as NNEF: {error:#}")))?;
        let mut builder = ArchiveBuilder::new(self.name, TOOL);
        builder.add_network(&tar)?;
        if !self.labels.is_empty() {
            builder.add_labels(self.labels)?;
        }
        builder.add_task(&self.task)?;
        builder.add_preprocessing(self.preprocessing)?;
        builder.add_provenance(self.provenance)?;
        builder.add_report(self.report)?;
        for golden in self.golden {
            builder.add_golden(golden)?;
        }
        Ok(builder)
    }
}

impl Model {
    /// Reads and checks a model file.
    ///
    /// # Errors
    /// A file that is missing, foreign, truncated, altered or of a later format, or whose
    /// parts do not belong together. The running model, if any, is not touched.
    pub fn load(path: &Path) -> Result<Self, RuntimeError> {
        Self::load_signed(path, None)
    }

    /// Like [`load`](Self::load); with a key, the file must be signed by it.
    ///
    /// # Errors
    /// See [`load`](Self::load); and with a key, no signature or that of another key.
    pub fn load_signed(path: &Path, key: Option<&PublicKey>) -> Result<Self, RuntimeError> {
        let archive = Archive::read(path)?;
        if let Some(key) = key {
            archive.check_signature(key)?;
        }
        Self::from_archive(&path.display().to_string(), &archive)
    }

    /// Like [`load`](Self::load), from bytes; `file` is for messages.
    ///
    /// # Errors
    /// See [`load`](Self::load).
    pub fn from_bytes(file: &str, bytes: Vec<u8>) -> Result<Self, RuntimeError> {
        Self::from_archive(file, &Archive::from_bytes(file, bytes)?)
    }

    /// Like [`load`](Self::load), from an archive; `file` is for messages.
    ///
    /// # Errors
    /// See [`load`](Self::load).
    pub fn from_archive(file: &str, archive: &Archive) -> Result<Self, RuntimeError> {
        Self::with_layers(file, archive, Layers::default())
    }

    /// Like [`from_archive`](Self::from_archive), for a network of these layers.
    ///
    /// # Errors
    /// See [`load`](Self::load).
    pub fn with_layers(file: &str, archive: &Archive, layers: Layers) -> Result<Self, RuntimeError> {
        let refuse = |cause| RuntimeError::Model { file: file.to_owned(), cause };
        let signer = archive.signer()?;
        let mut tar = archive.network()?;
        // The bytes are those that the manifest names, but whoever wrote both may be hostile:
        // tract's parser is not ours, and a panic in it must not take a running service down.
        let graph = catch_unwind(AssertUnwindSafe(|| layers.framework().model_for_read(&mut tar)))
            .unwrap_or_else(|_| bail!("tract's reader panicked"))
            .map_err(|error| refuse(ModelCause::Graph(format!("{error:#}"))))?;
        let task = archive.task()?;
        let labels = match task {
            Task::Tensors | Task::Embedding { .. } if !archive.has_labels() => Labels::none(),
            _ => archive.labels()?,
        };
        let (input, outputs) =
            shapes(&graph).map_err(|error| refuse(ModelCause::Shapes(format!("{error:#}"))))?;
        let model = Self {
            file: file.to_owned(),
            name: archive.name().to_owned(),
            layers,
            graph,
            head: Head::new(task, &outputs, [input[0], input[1]]).map_err(|error| refuse(error.into()))?,
            labels,
            preprocessing: archive.preprocessing()?,
            provenance: archive.provenance()?,
            report: archive.report()?,
            golden: archive.goldens()?,
            signer,
        };
        model.check(input, &outputs).map_err(refuse)?;
        Ok(model)
    }

    /// Whether the parts fit each other.
    fn check(&self, input: [usize; 3], outputs: &[TensorFact]) -> Result<(), ModelCause> {
        let [height, width] = self.preprocessing.crop;
        let channels = self.preprocessing.channels.count();
        let made = [height as usize, width as usize, channels];
        if input != made {
            return Err(ModelCause::Input { expected: input, found: made });
        }
        if let Some(classes) = self.head.class_count()
            && self.labels.len() != classes
        {
            return Err(ModelCause::Labels { expected: classes, found: self.labels.len() });
        }
        for golden in &self.golden {
            let fits = match (&self.head, &golden.expected) {
                (Head::Classes(classes), Expected::Logits(logits)) => logits.len() == classes.len(),
                (Head::Embedding(embedding), Expected::Logits(vector)) => vector.len() == embedding.numbers(),
                (
                    Head::Anomaly(_) | Head::Tensors | Head::Boxes(_) | Head::Mask(_) | Head::Points(_),
                    Expected::Tensors(tensors),
                ) => tensors.iter().map(Vec::len).eq(outputs.iter().map(TensorFact::bytes)),
                _ => false,
            };
            if golden.input.len() != input.iter().product::<usize>() || !fits {
                return Err(ModelCause::GoldenSize);
            }
        }
        if self.golden.is_empty() {
            return Err(ModelCause::NoGolden);
        }
        Ok(())
    }

    /// The file that it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The int8 graph, for tract's plan.
    pub fn graph(&self) -> &TypedModel {
        &self.graph
    }

    /// The layers that it was read with.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// What the file says of its outputs.
    pub fn task(&self) -> Task {
        match &self.head {
            Head::Classes(classes) => Task::Classes { activation: classes.activation() },
            Head::Anomaly(_) => Task::Anomaly,
            Head::Embedding(embedding) => Task::Embedding { normalised: embedding.is_normalised() },
            Head::Tensors => Task::Tensors,
            Head::Boxes(boxes) => {
                Task::Boxes { outputs: boxes.maps().to_vec(), decoder: boxes.decoder().clone() }
            }
            Head::Points(points) => {
                Task::Points { outputs: points.maps().to_vec(), decoder: points.decoder().clone() }
            }
            Head::Mask(mask) => Task::Mask {
                outputs: mask.maps().to_vec(),
                map: mask.map().to_owned(),
                colours: mask.colours().to_vec(),
            },
        }
    }

    /// What its outputs mean.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The class names; none of a network whose outputs are not classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// How an image becomes the network's input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Where the network came from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The quantisation report.
    pub fn report(&self) -> &serde_json::Value {
        &self.report
    }

    /// The key that signed the file, if it is signed; see [`Archive::signer`].
    pub fn signer(&self) -> Option<&PublicKey> {
        self.signer.as_ref()
    }

    /// What the network must compute, bit for bit.
    pub fn golden(&self) -> &[Golden] {
        &self.golden
    }

    /// Packs the network for a target.
    ///
    /// # Errors
    /// Parameters that the kernels refuse, or an instruction set that this CPU does not have.
    pub fn compile(&self, target: &Target) -> Result<Program, RuntimeError> {
        Program::compile(&self.graph, &self.layers, target).map_err(|error| self.named(error))
    }

    /// The steps as a CPU with `isa` would run them; see [`Program::steps_on`].
    ///
    /// # Errors
    /// Parameters that the kernels refuse.
    pub fn steps_on(&self, isa: Isa) -> Result<Vec<StepInfo>, RuntimeError> {
        Program::steps_on(&self.graph, &self.layers, isa).map_err(|error| self.named(error))
    }

    /// The error with this file's name.
    fn named(&self, error: RuntimeError) -> RuntimeError {
        match error {
            RuntimeError::Graph(cause) => FileError::content(&self.file, cause).into(),
            other => other,
        }
    }

    /// Runs the golden vectors through `program`.
    ///
    /// # Errors
    /// The first number that differs, in any bit, from what the model file says.
    pub fn self_test(&self, program: &mut Program, parallel: &dyn Parallel) -> Result<(), RuntimeError> {
        for (index, golden) in self.golden.iter().enumerate() {
            let outputs = program.run(parallel, &golden.input)?;
            let difference = match &golden.expected {
                Expected::Logits(expected) => different_logit(outputs, expected)?,
                Expected::Tensors(expected) => different_byte(outputs, expected),
            };
            if let Some(difference) = difference {
                let cause = format!(
                    "golden vector {index}: {difference}; \
                     the kernels or the memory of this machine are not to be trusted"
                );
                return Err(FileError::content(&self.file, cause).into());
            }
        }
        Ok(())
    }
}

fn different_logit(outputs: Outputs<'_>, expected: &[f32]) -> Result<Option<String>, RuntimeError> {
    let logits: &[f32] = outputs.get(0).map(|output| output.slice()).transpose()?.unwrap_or_default();
    let differs = |(found, expected): (&f32, &f32)| found.to_bits() != expected.to_bits();
    let class = logits.iter().zip(expected).position(differs);
    Ok(class.map(|class| format!("logit {class} is {}, must be {}", logits[class], expected[class])))
}

fn different_byte(outputs: Outputs<'_>, expected: &[Vec<u8>]) -> Option<String> {
    outputs.iter().zip(expected).enumerate().find_map(|(output, (found, expected))| {
        let bytes = found.little_endian();
        let byte = bytes.iter().zip(expected).position(|(found, expected)| found != expected)?;
        Some(format!("byte {byte} of output {output} is {}, must be {}", bytes[byte], expected[byte]))
    })
}

/// `[height, width, channels]` of a network's only input, and its outputs.
fn shapes(graph: &TypedModel) -> TractResult<([usize; 3], Vec<TensorFact>)> {
    let &[input] = graph.input_outlets()? else { bail!("a network has one input") };
    let fact = |outlet: &OutletId| {
        let fact = graph.outlet_fact(*outlet)?;
        TensorFact::of(fact).context("a network has fixed sizes")
    };
    let outputs = graph.output_outlets()?.iter().map(fact).collect::<TractResult<_>>()?;
    match *fact(&input)?.shape {
        [1, height, width, channels] => Ok(([height, width, channels], outputs)),
        ref shape => bail!("a network takes an image, not {shape:?}"),
    }
}
