//! A model file as a whole: loading, checking, compiling, writing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use resight_base::files::FileError;
use resight_imaging::{ImageView, Orientation, Preprocessing, Preprocessor};
use resight_kernels::{Isa, Parallel};
use resight_model_file::{Archive, ArchiveBuilder, Golden, Labels, Provenance, PublicKey};
use tract_nnef::internal::*;

use crate::error::RuntimeError;
use crate::nnef;
use crate::program::{Program, StepInfo};
use crate::threads::{ThreadPool, ThreadSettings};

/// The program that writes model files, with its version.
const TOOL: &str = concat!("resight ", env!("CARGO_PKG_VERSION"));

/// A checked model file: the graph and everything that travels with it.
#[derive(Debug)]
pub struct Model {
    file: String,
    name: String,
    graph: TypedModel,
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
    /// The int8 graph.
    pub graph: &'a TypedModel,
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
        let tar = nnef::framework()
            .write_to_tar_with_config(self.graph, vec![], false, true)
            .map_err(|error| RuntimeError::Graph(format!("writing the graph as NNEF: {error:#}")))?;
        let mut builder = ArchiveBuilder::new(self.name, TOOL);
        builder.add_network(&tar)?;
        builder.add_labels(self.labels)?;
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
        let refuse = |cause: String| RuntimeError::from(FileError::content(file, cause));
        let signer = archive.signer()?;
        let mut tar = archive.network()?;
        // The bytes are those that the manifest names, but whoever wrote both may be hostile:
        // tract's parser is not ours, and a panic in it must not take a running service down.
        let graph = catch_unwind(AssertUnwindSafe(|| nnef::framework().model_for_read(&mut tar)))
            .unwrap_or_else(|_| bail!("tract's reader panicked"))
            .map_err(|error| refuse(format!("the graph cannot be read: {error:#}")))?;
        let model = Self {
            file: file.to_owned(),
            name: archive.name().to_owned(),
            graph,
            labels: archive.labels()?,
            preprocessing: archive.preprocessing()?,
            provenance: archive.provenance()?,
            report: archive.report()?,
            golden: archive.goldens()?,
            signer,
        };
        model.check().map_err(refuse)?;
        Ok(model)
    }

    /// Whether the parts fit each other.
    fn check(&self) -> Result<(), String> {
        let (input, classes) = self.shape().map_err(|error| format!("{error:#}"))?;
        let [height, width] = self.preprocessing.crop;
        let channels = self.preprocessing.channels.count();
        if input != [height as usize, width as usize, channels] {
            return Err(format!(
                "the network takes {input:?}, preprocessing makes [{height}, {width}, {channels}]"
            ));
        }
        if self.labels.len() != classes {
            return Err(format!("the network has {classes} classes, there are {} labels", self.labels.len()));
        }
        for golden in &self.golden {
            if golden.input.len() != input.iter().product::<usize>() || golden.logits.len() != classes {
                return Err("a golden vector is not of the network's size".to_owned());
            }
        }
        if self.golden.is_empty() {
            return Err("there is no golden vector".to_owned());
        }
        Ok(())
    }

    fn shape(&self) -> TractResult<([usize; 3], usize)> {
        let (&[input], &[output]) = (self.graph.input_outlets()?, self.graph.output_outlets()?) else {
            bail!("a network has one input and one output");
        };
        let shape = |outlet| -> TractResult<TVec<usize>> {
            let fact = self.graph.outlet_fact(outlet)?;
            Ok(fact.shape.as_concrete().context("a network has fixed sizes")?.into())
        };
        match (&*shape(input)?, &*shape(output)?) {
            (&[1, height, width, channels], &[1, classes]) => Ok(([height, width, channels], classes)),
            (input, output) => {
                bail!("a network takes an image and gives logits, not {input:?} to {output:?}")
            }
        }
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

    /// The class names.
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

    /// Packs the network for an instruction set and so many threads.
    ///
    /// # Errors
    /// Parameters that the kernels refuse, or an instruction set that this CPU does not have.
    pub fn compile(&self, isa: Isa, threads: usize) -> Result<Program, RuntimeError> {
        Program::compile(&self.graph, isa, threads).map_err(|error| self.named(error))
    }

    /// The steps as a CPU with `isa` would run them; see [`Program::steps_on`].
    ///
    /// # Errors
    /// Parameters that the kernels refuse.
    pub fn steps_on(&self, isa: Isa) -> Result<Vec<StepInfo>, RuntimeError> {
        Program::steps_on(&self.graph, isa).map_err(|error| self.named(error))
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
    /// The first logit that differs, in any bit, from what the model file says.
    pub fn self_test(&self, program: &mut Program, parallel: &dyn Parallel) -> Result<(), RuntimeError> {
        for (index, golden) in self.golden.iter().enumerate() {
            let logits = program.run(parallel, &golden.input)?;
            let differs = |(found, expected): (&f32, &f32)| found.to_bits() != expected.to_bits();
            if let Some(class) = logits.iter().zip(&golden.logits).position(differs) {
                let cause = format!(
                    "golden vector {index}: logit {class} is {}, must be {}; \
                     the kernels or the memory of this machine are not to be trusted",
                    logits[class], golden.logits[class]
                );
                return Err(FileError::content(&self.file, cause).into());
            }
        }
        Ok(())
    }
}

/// What [`Classifier::classify`] needs, ready for one thread of control.
pub struct Classifier {
    program: Program,
    preprocessor: Preprocessor,
    pool: Arc<ThreadPool>,
    input: Vec<i8>,
}

impl Classifier {
    /// Compiles `model` and makes the preprocessing buffers.
    ///
    /// # Errors
    /// See [`Model::compile`].
    pub fn new(model: &Model, isa: Isa, settings: ThreadSettings) -> Result<Self, RuntimeError> {
        let pool = Arc::new(ThreadPool::new(settings)?);
        let preprocessor = Preprocessor::new(model.preprocessing())?;
        Ok(Self {
            program: model.compile(isa, pool.threads())?,
            input: vec![0; preprocessor.input_len()],
            preprocessor,
            pool,
        })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.program.classes()
    }

    /// The compiled network.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The threads that compute, for [`ThreadPool::enter`].
    pub fn threads(&self) -> Arc<ThreadPool> {
        self.pool.clone()
    }

    /// Turns each image before the network sees it.
    pub fn set_orientation(&mut self, orientation: Orientation) {
        self.preprocessor.set_orientation(orientation);
    }

    /// The logits of an image of any size and format.
    ///
    /// # Errors
    /// None on an image that [`ImageView`] accepted, unless the network itself is broken.
    pub fn classify(&mut self, image: &ImageView<'_>) -> Result<&[f32], RuntimeError> {
        self.preprocessor.quantise(image, &mut self.input)?;
        let Self { program, pool, input, .. } = self;
        pool.install(|| program.run(&**pool, input))
    }

    /// Runs the golden vectors of `model`, which it was made from.
    ///
    /// # Errors
    /// See [`Model::self_test`].
    pub fn self_test(&mut self, model: &Model) -> Result<(), RuntimeError> {
        let Self { program, pool, .. } = self;
        pool.install(|| model.self_test(program, &**pool))
    }
}
