//! What a network is quantised for: `--task` and `--decoder` of `resight quantize`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use resight_base::files::FileError;
use resight_model_file::{Anchors, BoxDecoder, CenterNet, Fcos, OutputMap, PointDecoder, Task};
use resight_runtime::{Head, HeadError, TensorFact};
use serde::Deserialize;

use crate::graph::{FloatGraph, GraphOutput};
use crate::import::{ImportError, Imported, import_maps};
use crate::quantise::graph::nhwc;

/// What a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskKind {
    /// Which class a picture shows.
    #[default]
    Classify,
    /// The class of each pixel.
    Segment,
    /// Boxes round things.
    Detect,
    /// Points of one thing, such as joints.
    Keypoints,
    /// A vector that says what a picture shows.
    Embed,
}

impl TaskKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Classify, Self::Segment, Self::Detect, Self::Keypoints, Self::Embed];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Segment => "segment",
            Self::Detect => "detect",
            Self::Keypoints => "keypoints",
            Self::Embed => "embed",
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for TaskKind {
    type Err = UnknownTask;

    fn from_str(text: &str) -> Result<Self, UnknownTask> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownTask)
    }
}

/// A task that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("classify, segment, detect, keypoints or embed is expected")]
pub struct UnknownTask;

/// How the maps of a network are made into boxes, a mask or points.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoder {
    /// Boxes.
    Boxes(BoxDecoder),
    /// A mask.
    Mask(MaskDecoder),
    /// Points.
    Points(PointDecoder),
}

/// How a map of scores becomes a mask: a file with `kind = "mask"`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskDecoder {
    /// The output with the scores; the first one where nothing is said.
    #[serde(default)]
    pub map: Option<String>,
    /// The colour of each class, red, green and blue.
    #[serde(default)]
    pub colours: Vec<[u8; 3]>,
}

/// Why a decoder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no description of a decoder.
    #[error("{path}: {cause}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in one line.
        cause: String,
    },
    /// The decoder makes something else than the task wants.
    #[error("the decoder `{decoder}` makes {makes}, which `--task {task}` does not")]
    Other {
        /// The decoder.
        decoder: String,
        /// What it makes.
        makes: &'static str,
        /// What was asked for.
        task: TaskKind,
    },
    /// Nothing says how boxes are made.
    #[error(
        "`--task detect` needs `--decoder`: {}, or a FILE.toml that says how boxes are made of the maps", OF_BOXES.map(|(name, _)| name).join(", ")
    )]
    NoDecoder,
    /// The network's outputs are not what the decoder needs.
    #[error("{network}: {fault}")]
    Head {
        /// The network's file.
        network: PathBuf,
        /// What does not fit.
        fault: HeadError,
    },
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum DecoderFile {
    #[serde(rename = "centernet")]
    CenterNet(CenterNet),
    Anchors(Anchors),
    Fcos(Fcos),
    Mask(MaskDecoder),
    Keypoints(PointDecoder),
}

/// A decoder and its name on the command line.
type Ready = (&'static str, fn() -> Decoder);

/// The ready decoders of boxes.
const OF_BOXES: [Ready; 7] = [
    ("centernet", || Decoder::Boxes(BoxDecoder::CenterNet(CenterNet::default()))),
    ("retinanet", || Decoder::Boxes(BoxDecoder::Anchors(Anchors::retinanet()))),
    ("ssd300", || Decoder::Boxes(BoxDecoder::Anchors(Anchors::ssd300()))),
    ("fcos", || Decoder::Boxes(BoxDecoder::Fcos(Fcos::default()))),
    ("detectnet", || Decoder::Boxes(BoxDecoder::Fcos(Fcos::detectnet()))),
    ("opencv-faces", || Decoder::Boxes(BoxDecoder::Anchors(Anchors::opencv_faces()))),
    ("opencv-faces-even", || Decoder::Boxes(BoxDecoder::Anchors(Anchors::opencv_faces_even()))),
];

/// The ready decoders of points.
const OF_POINTS: [Ready; 1] = [("trt-pose", || Decoder::Points(PointDecoder::trt_pose()))];

impl Decoder {
    /// The decoder of a task, by the name of a ready one or by a TOML file; `None` for a classifier
    /// and for a network that ends in a vector.
    ///
    /// # Errors
    /// A file that cannot be read, and a decoder of another task.
    pub fn read(task: TaskKind, argument: Option<&str>) -> Result<Option<Self>, TaskError> {
        let decoder = match (task, argument) {
            (TaskKind::Classify | TaskKind::Embed, None) => return Ok(None),
            (TaskKind::Segment, None) => Self::Mask(MaskDecoder::default()),
            (TaskKind::Keypoints, None) => Self::Points(PointDecoder::default()),
            (TaskKind::Detect, None) => return Err(TaskError::NoDecoder),
            (_, Some(argument)) => {
                match OF_BOXES.iter().chain(&OF_POINTS).find(|ready| ready.0 == argument) {
                    Some((_, decoder)) => decoder(),
                    None => Self::from_toml(Path::new(argument))?,
                }
            }
        };
        let (makes, of) = match decoder {
            Self::Boxes(_) => ("boxes", TaskKind::Detect),
            Self::Mask(_) => ("a mask", TaskKind::Segment),
            Self::Points(_) => ("points", TaskKind::Keypoints),
        };
        if of != task {
            return Err(TaskError::Other { decoder: argument.unwrap_or("mask").to_owned(), makes, task });
        }
        Ok(Some(decoder))
    }

    fn from_toml(path: &Path) -> Result<Self, TaskError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError::system(path, "read", error))?;
        let wrong = |cause: String| TaskError::Toml {
            path: path.into(),
            cause: cause.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let file: DecoderFile = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).unwrap_or(&text).matches('\n').count() + 1;
            wrong(format!("line {line}: {}", error.message()))
        })?;
        let decoder = match file {
            DecoderFile::CenterNet(centernet) => Self::Boxes(BoxDecoder::CenterNet(centernet)),
            DecoderFile::Anchors(anchors) => Self::Boxes(BoxDecoder::Anchors(anchors)),
            DecoderFile::Fcos(fcos) => Self::Boxes(BoxDecoder::Fcos(fcos)),
            DecoderFile::Mask(mask) => Self::Mask(mask),
            DecoderFile::Keypoints(points) => Self::Points(points),
        };
        match &decoder {
            Self::Boxes(boxes) => boxes.validate().map_err(|error| wrong(error.to_string()))?,
            Self::Points(points) => points.validate().map_err(|error| wrong(error.to_string()))?,
            Self::Mask(_) => {}
        }
        Ok(decoder)
    }

    /// The outputs that it needs, by their names; empty where the first one will do.
    pub fn needs(&self) -> Vec<String> {
        match self {
            Self::Boxes(decoder) => decoder.needs(),
            Self::Mask(mask) => mask.map.iter().cloned().collect(),
            Self::Points(points) => points.needs(),
        }
    }

    /// Reads the network's outputs that it needs, as maps; see [`import_maps`].
    ///
    /// # Errors
    /// As [`import_maps`].
    pub fn import(&self, network: &Path, size: Option<[usize; 2]>) -> Result<Imported, ImportError> {
        let mut imported = import_maps(network, size, &self.needs())?;
        self.complete(&mut imported.graph);
        Ok(imported)
    }

    /// Says of outputs what makes probabilities of them, where the network's file leaves that to whoever
    /// reads them.
    pub fn complete(&self, graph: &mut FloatGraph) {
        let Self::Boxes(decoder) = self else { return };
        for output in &mut graph.outputs {
            output.activation = output.activation.or_else(|| decoder.activation(&output.name));
        }
        let BoxDecoder::Anchors(anchors) = decoder else { return };
        let place =
            |(index, output): (usize, &GraphOutput)| Some((anchors.scores.place(&output.name)?, index));
        let mut scores: Vec<_> = graph.outputs.iter().enumerate().filter_map(place).collect();
        scores.sort_unstable();
        for ((_, index), level) in scores.into_iter().zip(&anchors.levels) {
            let channels = graph.nodes[graph.outputs[index].node].shape[0];
            graph.outputs[index].group = Some(channels / level.shapes.sizes().len().max(1));
        }
    }

    /// What the model file says of these outputs.
    pub fn task(&self, outputs: Vec<OutputMap>) -> Task {
        match self {
            Self::Boxes(decoder) => Task::Boxes { outputs, decoder: decoder.clone() },
            Self::Points(decoder) => Task::Points { outputs, decoder: decoder.clone() },
            Self::Mask(mask) => {
                let first = outputs.first().map(|output| output.name.clone()).unwrap_or_default();
                let map = mask.map.clone().unwrap_or(first);
                Task::Mask { outputs, map, colours: mask.colours.clone() }
            }
        }
    }

    /// The head that a network will have, before it is quantised.
    ///
    /// # Errors
    /// Outputs that do not fit the decoder.
    pub fn head(&self, graph: &FloatGraph, network: &Path) -> Result<Head, TaskError> {
        // What steps are worth is not known yet, and does not matter here.
        let map = |output: &GraphOutput| OutputMap {
            name: output.name.clone(),
            scale: 1.0,
            zero_point: 0,
            activation: output.activation,
        };
        let outputs = graph.outputs.iter().map(map).collect();
        let fact = |node: usize| TensorFact::activation(nhwc(graph.nodes[node].shape));
        let facts: Vec<TensorFact> = graph.output_nodes().into_iter().map(fact).collect();
        let [_, height, width] = graph.nodes.first().map_or([0; 3], |input| input.shape);
        Head::new(self.task(outputs), &facts, [height, width])
            .map_err(|fault| TaskError::Head { network: network.into(), fault })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoders_of_the_guide_are_read() {
        let guide = include_str!("../../docs/guides/where.md");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("decoder.toml");
        let blocks = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let mut read = 0;
        for block in blocks.filter(|block| block.starts_with("kind = ")) {
            std::fs::write(&file, block).unwrap();
            let of = |task| Decoder::read(task, file.to_str());
            let tasks = [TaskKind::Detect, TaskKind::Segment, TaskKind::Keypoints];
            let found = tasks.map(of).into_iter().filter_map(Result::ok).flatten().count();
            assert_eq!(found, 1, "{block}\n{:?}", of(TaskKind::Keypoints));
            read += 1;
        }
        assert!(read >= 4, "{read}");
    }

    #[test]
    fn ready_decoders_are_of_their_task() {
        for (name, _) in OF_BOXES {
            assert!(matches!(Decoder::read(TaskKind::Detect, Some(name)), Ok(Some(Decoder::Boxes(_)))));
        }
        let Ok(Some(points)) = Decoder::read(TaskKind::Keypoints, Some("trt-pose")) else { panic!("points") };
        assert_eq!(points.needs(), ["cmap", "paf"]);
        let Decoder::Points(points) = points else { panic!("points") };
        points.validate().unwrap();
        let error = Decoder::read(TaskKind::Detect, Some("trt-pose")).unwrap_err().to_string();
        assert_eq!(error, "the decoder `trt-pose` makes points, which `--task detect` does not");
    }
}
