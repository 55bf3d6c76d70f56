//! Two networks beside each other on the same pictures: their logits, and layer by layer where names agree.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use resight_imaging::{ImageView, Preprocessing, Preprocessor, decode};
use resight_kernels::Sequential;
use resight_runtime::{Classes, Model, Program, Quantisation, Target, top_k};
use serde::Serialize;

use crate::classifier::is_onnx;
use crate::convert::structure::structure;
use crate::graph::FloatGraph;
use crate::import::{FileQuantisation, Imported, import_any};
use crate::preprocess;
use crate::quantise::graph::{Encoding, unique_names};
use crate::quantise::{Noise, Progress};
use crate::reference::Reference;

/// What two networks have in common.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Pictures that both were run on.
    pub pictures: usize,
    /// Share of them for which the best class is the same, percent.
    pub agreement: f64,
    /// Signal to noise ratio of the second network's logits against the first one's, decibel.
    pub sqnr_db: f64,
    /// The same with the mean of each picture's logits removed.
    pub centred_sqnr_db: f64,
    /// The layers that both have, in the order of the first one.
    pub layers: Vec<ComparedLayer>,
}

/// One layer that both networks have.
#[derive(Debug, Clone, Serialize)]
pub struct ComparedLayer {
    /// Its name in both.
    pub name: String,
    /// Signal to noise ratio of its output in the second network against that in the first, decibel.
    pub sqnr_db: f64,
}

/// Compares the network of the file `second` with that of `first`, each of which is an ONNX file or a model
/// file. An ONNX file gets the preprocessing of the model file, if there is one.
///
/// # Errors
/// A file that cannot be read, networks of other numbers of classes, and a picture that cannot be decoded.
pub fn compare(
    first: &Path,
    second: &Path,
    pictures: &[PathBuf],
    target: &Target,
    progress: Progress<'_>,
) -> Result<Comparison> {
    let models = [first, second].map(|path| (!is_onnx(path)).then(|| Model::load(path)).transpose());
    let [one, other] = models;
    let (one, other) = (one?, other?);
    let preprocessing = one.as_ref().or(other.as_ref()).map(|model| model.preprocessing().clone());
    let open = |path: &Path, model: Option<Model>| match model {
        Some(model) => Ok(Side::of_model(model)),
        None => Side::of_onnx(path, preprocessing.as_ref()),
    };
    let sides = [open(first, one)?, open(second, other)?];
    let names: HashMap<&str, usize> =
        sides[1].names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let shared: Vec<(usize, usize)> = sides[0]
        .names
        .iter()
        .enumerate()
        .filter_map(|(index, name)| Some((index, *names.get(name.as_str())?)))
        .collect();
    let done = AtomicUsize::new(0);
    let rows: Vec<Row> = pictures
        .par_iter()
        .map_init(
            || (sides[0].runner(target), sides[1].runner(target)),
            |(one, other), picture| {
                let (one, other) = match (one, other) {
                    (Ok(one), Ok(other)) => (one, other),
                    (Err(error), _) | (_, Err(error)) => anyhow::bail!("{error:#}"),
                };
                let (one, other) = (one.run(picture)?, other.run(picture)?);
                progress("comparing", done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
                Row::of(&one, &other, &shared)
            },
        )
        .collect::<Result<_>>()?;
    let (mut logits, mut centred) = (Noise::default(), Noise::default());
    let mut layers = vec![None::<Noise>; shared.len()];
    for row in &rows {
        logits.merge(row.logits);
        centred.merge(row.centred);
        for (sum, layer) in layers.iter_mut().zip(&row.layers) {
            if let Some(layer) = layer {
                sum.get_or_insert_default().merge(*layer);
            }
        }
    }
    let same = rows.iter().filter(|row| row.same).count();
    let layers = shared.iter().zip(layers).filter_map(|(&(index, _), noise)| {
        Some(ComparedLayer { name: sides[0].names[index].clone(), sqnr_db: noise?.decibel() })
    });
    Ok(Comparison {
        pictures: rows.len(),
        agreement: 100.0 * same as f64 / rows.len().max(1) as f64,
        sqnr_db: logits.decibel(),
        centred_sqnr_db: centred.decibel(),
        layers: layers.collect(),
    })
}

/// The comparison on one picture.
struct Row {
    same: bool,
    logits: Noise,
    centred: Noise,
    layers: Vec<Option<Noise>>,
}

impl Row {
    fn of(one: &Values, other: &Values, shared: &[(usize, usize)]) -> Result<Self> {
        ensure!(
            one.logits.len() == other.logits.len(),
            "the networks have {} and {} classes; only networks of the same classes can be compared",
            one.logits.len(),
            other.logits.len()
        );
        let layer = |&(first, second): &(usize, usize)| {
            let (first, second) = (one.layers[first].as_ref()?, other.layers[second].as_ref()?);
            (first.len() == second.len()).then(|| Noise::of(first, second))
        };
        Ok(Self {
            same: top_k(&one.logits, 1) == top_k(&other.logits, 1),
            logits: Noise::of(&one.logits, &other.logits),
            centred: Noise::centred(&one.logits, &other.logits),
            layers: shared.iter().map(layer).collect(),
        })
    }
}

/// What a network makes of a picture.
struct Values {
    logits: Vec<f32>,
    /// Outputs of layers as real numbers, `[channels][height][width]`, in the order of the names.
    layers: Vec<Option<Vec<f32>>>,
}

/// One of two networks.
struct Side {
    preprocessing: Preprocessing,
    /// The layers that can be looked at.
    names: Vec<String>,
    network: Network,
}

enum Network {
    Float(Box<Reference>),
    /// With what the layers' steps are worth.
    Int8(Arc<Model>, Vec<Quantisation>),
}

impl Side {
    fn of_model(model: Model) -> Self {
        let layers = model.report()["layers"].as_array().cloned().unwrap_or_default();
        let (mut names, mut steps) = (vec![], vec![]);
        for layer in &layers {
            let number = |key: &str| layer[key].as_f64();
            if let (Some(name), Some(scale), Some(zero)) =
                (layer["name"].as_str(), number("scale"), number("zero_point"))
            {
                names.push(name.to_owned());
                steps.push(Quantisation { scale: scale as f32, zero_point: zero as i32 });
            }
        }
        let preprocessing = model.preprocessing().clone();
        Self { preprocessing, names, network: Network::Int8(Arc::new(model), steps) }
    }

    fn of_onnx(path: &Path, preprocessing: Option<&Preprocessing>) -> Result<Self> {
        let size = preprocessing.map(|preprocessing| preprocessing.crop.map(|side| side as usize));
        let (imported, quantisation) = import_any(path, size)?;
        let named = || path.display().to_string();
        let own = || preprocess::find(&imported, path)?.preprocessing(&imported).with_context(named);
        let mut preprocessing = preprocessing.cloned().map_or_else(own, Ok)?;
        // An export takes what the network took that its model was made from, and makes grey levels of it.
        let channels = preprocessing.channels.count();
        if !imported.preparation.rounds_nothing(&preprocessing.normalisation()[..channels]) {
            let prepared = imported.preparation.of(&preprocessing.normalisation()[..channels]);
            for (channel, [mean, deviation]) in prepared.into_iter().enumerate() {
                preprocessing.mean[channel] = mean;
                preprocessing.standard_deviation[channel] = deviation;
            }
        }
        let graph = observable(&imported, quantisation.as_ref(), &preprocessing)?;
        let tensors: Vec<String> = graph.nodes.iter().map(|node| node.tensor.clone()).collect();
        let reference = Reference::new(&imported, &tensors)?;
        Ok(Self { preprocessing, names: unique_names(&graph), network: Network::Float(Box::new(reference)) })
    }

    fn runner(&self, target: &Target) -> Result<Runner<'_>> {
        let program = match &self.network {
            Network::Float(_) => None,
            Network::Int8(model, _) => Some(model.compile(&target.with_whole_layers())?),
        };
        Ok(Runner { side: self, preprocessor: Preprocessor::new(&self.preprocessing)?, program })
    }
}

/// The network whose layers have the names that a model file of it has.
fn observable(
    imported: &Imported,
    quantisation: Option<&FileQuantisation>,
    preprocessing: &Preprocessing,
) -> Result<FloatGraph> {
    let Some(quantisation) = quantisation else { return Ok(imported.graph.clone()) };
    let image = Encoding::image(preprocessing);
    Ok(structure(&imported.graph, quantisation, &image)?.graph)
}

/// A network that runs, for one thread.
struct Runner<'a> {
    side: &'a Side,
    preprocessor: Preprocessor,
    program: Option<Program>,
}

impl Runner<'_> {
    fn run(&mut self, picture: &Path) -> Result<Values> {
        let image = decode(picture)?;
        let view = ImageView::of(&image)?;
        let names = &self.side.names;
        match (&self.side.network, &mut self.program) {
            (Network::Int8(_, steps), Some(program)) => {
                let mut input = vec![0i8; self.preprocessor.input_len()];
                self.preprocessor.quantise(&view, &mut input)?;
                let positions: HashMap<&str, usize> =
                    names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
                let infos = program.steps();
                let mut layers = vec![None; names.len()];
                let outputs = program.run_observed(&Sequential, &input, |step, output| {
                    let info = &infos[step];
                    let Some(&index) = positions.get(info.name.as_str()) else { return };
                    if let Ok(output) = output.slice::<i8>() {
                        layers[index] = Some(real(output, info.output[2], steps[index]));
                    } else if let Ok(output) = output.slice::<f32>() {
                        layers[index] = Some(output.to_vec());
                    }
                })?;
                Ok(Values { logits: Classes::logits(outputs)?.to_vec(), layers })
            }
            (Network::Float(reference), _) => {
                let mut input = vec![0.0; self.preprocessor.input_len()];
                self.preprocessor.normalise(&view, &mut input)?;
                let observation = reference.run(&input)?;
                let layers = (0..names.len()).map(|index| Some(observation.tensor(index).to_vec())).collect();
                Ok(Values { logits: observation.logits().to_vec(), layers })
            }
            (Network::Int8(..), None) => anyhow::bail!("the network was not compiled"),
        }
    }
}

/// `[position][channel]` of integers as `[channel][position]` of real numbers.
fn real(output: &[i8], channels: usize, steps: Quantisation) -> Vec<f32> {
    let positions = output.len() / channels.max(1);
    let mut real = Vec::with_capacity(output.len());
    for channel in 0..channels {
        real.extend((0..positions).map(|position| steps.dequantise(output[position * channels + channel])));
    }
    real
}
