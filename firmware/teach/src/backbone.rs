//! The part of a network that is kept: from the picture to the averages of its last features.

use resight_imaging::Preprocessing;
use resight_kernels::Sequential;
use resight_runtime::layers::{
    Add, AveragePool, Channels, Concat, Convolution, GeneralisedMean, GlobalAverage, MaxPool, Multiply,
    Normalise, Pad, Table, Upsample, View,
};
use resight_runtime::tract::{OutletId, TypedModel, TypedNode};
use resight_runtime::{Layers, Model, Program, Quantisation, Target};

use crate::error::TeachError;

/// A network whose last layers are to be replaced.
#[derive(Debug, Clone)]
pub struct Backbone {
    name: String,
    layers: Layers,
    graph: TypedModel,
    average: OutletId,
    preprocessing: Preprocessing,
    channels: usize,
    fraction_bits: u32,
    quantisation: Quantisation,
}

/// Where the numbers of a tensor get their meaning: the node that made it, or one before it that only
/// moved them.
pub(crate) fn quantisation(graph: &TypedModel, mut outlet: OutletId) -> Option<Quantisation> {
    macro_rules! output_of {
        ($node:expr, $($layer:ty),*) => {
            None$(.or_else(|| $node.op_as::<$layer>().map(|layer| layer.output)))*
        };
    }
    loop {
        let node: &TypedNode = &graph.nodes[outlet.node];
        let own = output_of!(
            node,
            Convolution,
            Add,
            Concat,
            Table,
            Multiply,
            AveragePool,
            Normalise,
            GeneralisedMean
        );
        if own.is_some() {
            return own;
        }
        let moves = node.op_is::<MaxPool>()
            || node.op_is::<Upsample>()
            || node.op_is::<Channels>()
            || node.op_is::<Pad>()
            || node.op_is::<View>();
        outlet = *node.inputs.first().filter(|_| moves)?;
    }
}

impl Backbone {
    /// The backbone of a model file.
    ///
    /// # Errors
    /// A network without a global average over int8 features.
    pub fn of(model: &Model) -> Result<Self, TeachError> {
        Self::new(model.name(), model.layers(), model.graph(), model.preprocessing())
    }

    /// The backbone of a graph of these layers.
    ///
    /// # Errors
    /// See [`of`](Self::of).
    pub fn new(
        name: &str,
        layers: &Layers,
        graph: &TypedModel,
        preprocessing: &Preprocessing,
    ) -> Result<Self, TeachError> {
        let refuse = |cause: &str| TeachError::Backbone { name: name.to_owned(), cause: cause.to_owned() };
        let averages: Vec<usize> =
            (0..graph.nodes.len()).filter(|&node| graph.nodes[node].op_is::<GlobalAverage>()).collect();
        let &[average] = averages.as_slice() else {
            return Err(refuse(
                "it has no single global average, whose features could be learnt from: give a classifier with \
                 one, such as `resight fetch resnet50-v1-12` brings",
            ));
        };
        let node = &graph.nodes[average];
        let fraction_bits = node.op_as::<GlobalAverage>().map_or(0, |layer| layer.fraction_bits);
        let input = node.inputs.first().copied();
        let quantisation = input.and_then(|input| quantisation(graph, input)).ok_or_else(|| {
            refuse("what its global average is taken of has no scale: give a network that `resight quantize` made")
        })?;
        let average = OutletId::new(average, 0);
        let fact = graph.outlet_fact(average).ok().and_then(|fact| fact.shape.as_concrete());
        let Some(&[1, channels]) = fact else {
            return Err(refuse("its global average is no row of numbers"));
        };
        let mut graph = graph.clone();
        graph.select_output_outlets(&[average]).map_err(|error| refuse(&format!("{error:#}")))?;
        Ok(Self {
            name: name.to_owned(),
            layers: layers.clone(),
            graph,
            average,
            preprocessing: preprocessing.clone(),
            channels,
            fraction_bits,
            quantisation,
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

    /// The graph; its output are the features.
    pub fn graph(&self) -> &TypedModel {
        &self.graph
    }

    /// The features in the graph.
    pub fn average(&self) -> OutletId {
        self.average
    }

    /// How a photograph becomes the network's input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Number of features.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The feature that stands for the real number 0.
    pub fn zero(&self) -> i32 {
        self.quantisation.zero_point << self.fraction_bits
    }

    /// The largest magnitude of a feature.
    pub fn limit(&self) -> i16 {
        128 << self.fraction_bits
    }

    /// Multiplications of one picture.
    pub fn macs(&self) -> u64 {
        let steps = Program::steps_on(&self.graph, &self.layers, resight_runtime::Isa::Generic);
        steps.map_or(0, |steps| steps.iter().map(|step| step.macs).sum())
    }

    /// Packs it for a target.
    ///
    /// # Errors
    /// See [`Program::compile`].
    pub fn compile(&self, target: &Target) -> Result<Extractor, TeachError> {
        Ok(Extractor { program: Program::compile(&self.graph, &self.layers, target)? })
    }
}

/// A backbone that runs on one thread.
#[derive(Debug)]
pub struct Extractor {
    program: Program,
}

impl Extractor {
    /// The features of an input, as [`Preprocessor`](resight_imaging::Preprocessor) makes it.
    ///
    /// # Errors
    /// An input of another size.
    pub fn features(&mut self, input: &[i8]) -> Result<Vec<i16>, TeachError> {
        let outputs = self.program.run(&Sequential, input)?;
        let features = outputs.get(0).map(|output| output.slice::<i16>().map(<[i16]>::to_vec));
        match features {
            Some(Ok(features)) => Ok(features),
            _ => Err(TeachError::Backbone {
                name: "the backbone".to_owned(),
                cause: "its features are no 16-bit numbers".to_owned(),
            }),
        }
    }
}
