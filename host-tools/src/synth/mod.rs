//! Residual networks with seeded random weights, for benchmarks and tests without a download.
//!
//! [`synth`] makes the exact graphs of the literature: ResNet-18 and 34 with basic blocks,
//! 50, 101 and 152 with bottlenecks and the stride on the 3x3 convolution (v1.5). The weights
//! are the same for the same seed on every machine.

mod protobuf;
mod random;

use std::path::Path;

use prost::Message as _;
use resight_base::files::{FileError, write_atomically};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, type_proto};

use self::protobuf::{float, float_tensor, integer, integer_tensor, integers, value_info};
use self::random::Random;

/// A network that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// ResNet-18: 1.814 GMAC.
    Resnet18,
    /// ResNet-34: 3.664 GMAC.
    Resnet34,
    /// ResNet-50 v1.5: 4.089 GMAC.
    Resnet50,
    /// ResNet-101 v1.5: 7.801 GMAC.
    Resnet101,
    /// ResNet-152 v1.5: 11.514 GMAC.
    Resnet152,
    /// Three basic blocks on 32x32 images with ten classes, for fast tests.
    TinyBasic,
    /// Three bottlenecks, a 7x7 stem and a max pool on 32x32 images with ten classes, for fast
    /// tests.
    TinyBottleneck,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 7] = [
        Architecture::Resnet18,
        Architecture::Resnet34,
        Architecture::Resnet50,
        Architecture::Resnet101,
        Architecture::Resnet152,
        Architecture::TinyBasic,
        Architecture::TinyBottleneck,
    ];

    /// Its name on the command line, such as `resnet50`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Resnet18 => "resnet18",
            Architecture::Resnet34 => "resnet34",
            Architecture::Resnet50 => "resnet50",
            Architecture::Resnet101 => "resnet101",
            Architecture::Resnet152 => "resnet152",
            Architecture::TinyBasic => "tiny-basic",
            Architecture::TinyBottleneck => "tiny-bottleneck",
        }
    }

    /// How it is built.
    pub fn design(self) -> Design {
        let imagenet = |bottleneck, blocks: [usize; 4]| Design {
            name: self.name().into(),
            bottleneck,
            blocks: blocks.to_vec(),
            ..Design::default()
        };
        match self {
            Architecture::Resnet18 => imagenet(false, [2, 2, 2, 2]),
            Architecture::Resnet34 => imagenet(false, [3, 4, 6, 3]),
            Architecture::Resnet50 => imagenet(true, [3, 4, 6, 3]),
            Architecture::Resnet101 => imagenet(true, [3, 4, 23, 3]),
            Architecture::Resnet152 => imagenet(true, [3, 8, 36, 3]),
            Architecture::TinyBasic => Design {
                name: self.name().into(),
                image: [3, 32, 32],
                classes: 10,
                stem: Stem::Small,
                bottleneck: false,
                blocks: vec![2, 1],
                widths: vec![8, 16],
                ..Design::default()
            },
            Architecture::TinyBottleneck => Design {
                name: self.name().into(),
                image: [3, 32, 32],
                classes: 10,
                blocks: vec![1, 2],
                widths: vec![6, 8],
                ..Design::default()
            },
        }
    }
}

impl std::str::FromStr for Architecture {
    type Err = SynthError;

    fn from_str(name: &str) -> Result<Self, SynthError> {
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| SynthError::Unknown {
            name: name.into(),
            known: Self::ALL.map(Architecture::name).join(", "),
        })
    }
}

/// The first layers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stem {
    /// A 7x7 convolution and a 3x3 max pool, both with stride 2.
    Large,
    /// A 3x3 convolution with stride 1, for small images.
    Small,
}

/// What a shortcut is where the shape changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// A 1x1 convolution (option B).
    Projection,
    /// Every second position and channels of zeros (option A).
    Padded,
}

/// How a residual network is built.
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a network")]
#[derive(Debug, Clone)]
pub struct Design {
    /// The graph's name.
    pub name: String,
    /// `[channels, height, width]` of the input.
    pub image: [usize; 3],
    /// Number of logits.
    pub classes: usize,
    /// The first layers.
    pub stem: Stem,
    /// Blocks of 1x1, 3x3, 1x1 convolutions instead of two 3x3.
    pub bottleneck: bool,
    /// Blocks of each stage; each but the first halves the image.
    pub blocks: Vec<usize>,
    /// Channels of each stage, before a bottleneck's expansion by 4. The stem has the first.
    pub widths: Vec<usize>,
    /// Groups of a bottleneck's 3x3 convolution (`ResNeXt`).
    pub groups: usize,
    /// Factor of the channels within a bottleneck (wide networks).
    pub widen: usize,
    /// Whether a bottleneck's stride is on its first 1x1 convolution (v1) instead of its 3x3
    /// (v1.5).
    pub stride_first: bool,
    /// Batch normalisation and `Relu` before each convolution (v2); implies
    /// [`batch_normalisation`](Self::batch_normalisation).
    pub preactivation: bool,
    /// Whether batch normalisation is kept as nodes of its own.
    pub batch_normalisation: bool,
    /// What a shortcut is where the shape changes.
    pub shortcut: Shortcut,
    /// Version of the ONNX operators.
    pub opset: i64,
}

impl Default for Design {
    /// `ResNet`-50 v1.5 with batch normalisation folded, in opset 13.
    fn default() -> Self {
        Design {
            name: "resnet50".into(),
            image: [3, 224, 224],
            classes: 1000,
            stem: Stem::Large,
            bottleneck: true,
            blocks: vec![3, 4, 6, 3],
            widths: vec![64, 128, 256, 512],
            groups: 1,
            widen: 1,
            stride_first: false,
            preactivation: false,
            batch_normalisation: false,
            shortcut: Shortcut::Projection,
            opset: 13,
        }
    }
}

/// Why a network cannot be made or written.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// There is no such architecture.
    #[error("there is no architecture `{name}`; choose one of {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// Makes a network: input `input` `[N, channels, height, width]`, output `logits` `[N, classes]`.
pub fn synth(architecture: Architecture, seed: u64) -> ModelProto {
    build(&architecture.design(), seed)
}

/// Makes a network of any design.
pub fn build(design: &Design, seed: u64) -> ModelProto {
    let mut builder = Builder {
        random: Random::new(seed),
        normalise: design.batch_normalisation || design.preactivation,
        graph: GraphProto { name: design.name.clone(), ..Default::default() },
    };
    let features = builder.features(design);
    builder.node("GlobalAveragePool", "avgpool", &[&features.tensor], vec![]);
    builder.node("Flatten", "flatten", &["avgpool"], vec![integer("axis", 1)]);
    let deviation = libm::sqrt(1.0 / features.channels as f64);
    builder.normal("fc.weight", &[design.classes, features.channels], 0.0, deviation);
    builder.normal("fc.bias", &[design.classes], 0.0, BIAS);
    builder.node("Gemm", "logits", &["flatten", "fc.weight", "fc.bias"], vec![integer("transB", 1)]);
    let mut graph = builder.graph;
    if let Some(classifier) = graph.node.last_mut() {
        classifier.name = "fc".into();
    }
    let image = design.image.map(|d| d as i64);
    graph.input = vec![value_info("input", &[None, Some(image[0]), Some(image[1]), Some(image[2])])];
    graph.output = vec![value_info("logits", &[None, Some(design.classes as i64)])];
    let ir_version = match design.opset {
        ..9 => 3,
        9..=10 => 4,
        11..=14 => 7,
        15..=18 => 8,
        _ => 10,
    };
    if ir_version < 4 {
        // The first versions of the format want every initialiser among the inputs.
        let listed = graph.initializer.iter().map(|t| {
            let dims: Vec<Option<i64>> = t.dims.iter().copied().map(Some).collect();
            let mut info = value_info(&t.name, &dims);
            if let Some(type_proto::Value::TensorType(tensor)) =
                info.r#type.as_mut().and_then(|t| t.value.as_mut())
            {
                tensor.elem_type = t.data_type;
            }
            info
        });
        graph.input.extend(listed.collect::<Vec<_>>());
    }
    ModelProto {
        ir_version,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: design.opset }],
        producer_name: "resight".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        ..Default::default()
    }
}

/// Writes a model; `path` has either all of it or what it had before.
///
/// # Errors
/// [`SynthError::Write`], with nothing left behind.
pub fn write(model: &ModelProto, path: &Path) -> Result<(), SynthError> {
    write_atomically(path, |file| file.write_all(&model.encode_to_vec()))?;
    Ok(())
}

/// Standard deviation of biases.
const BIAS: f64 = 0.1;
/// Factor of the last convolution of each block: with random weights the sum of the blocks
/// would grow without it (1 + 0.25^2 per block, 1.06^50 = 21 in ResNet-152).
const BRANCH: f64 = 0.25;

/// A tensor of the network.
#[derive(Clone)]
struct Features {
    tensor: String,
    channels: usize,
}

/// One convolution.
struct Layer<'a> {
    name: &'a str,
    outputs: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    /// Factor of the result.
    gain: f64,
}

struct Builder {
    random: Random,
    normalise: bool,
    graph: GraphProto,
}

impl Builder {
    /// All layers before the global average.
    fn features(&mut self, design: &Design) -> Features {
        let first = *design.widths.first().unwrap_or(&8);
        let image = Features { tensor: "input".into(), channels: design.image[0] };
        let (kernel, stride) = match design.stem {
            Stem::Large => (7, 2),
            Stem::Small => (3, 1),
        };
        let stem = Layer { name: "conv1", outputs: first, kernel, stride, groups: 1, gain: 1.0 };
        let mut features = if design.preactivation {
            self.convolution(&image, &stem, false)
        } else {
            let normalised = self.convolution_normalised(&image, &stem, "bn1");
            self.relu(&normalised, "relu")
        };
        if design.stem == Stem::Large {
            let window = vec![
                integers("kernel_shape", &[3, 3]),
                integers("pads", &[1, 1, 1, 1]),
                integers("strides", &[2, 2]),
            ];
            features.tensor = self.node("MaxPool", "maxpool", &[&features.tensor], window);
        }
        for (stage, (&blocks, &width)) in design.blocks.iter().zip(&design.widths).enumerate() {
            for block in 0..blocks {
                let name = format!("layer{}.{block}", stage + 1);
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                features = if design.preactivation {
                    self.block_v2(design, &name, &features, width, stride)
                } else {
                    self.block(design, &name, &features, width, stride)
                };
            }
        }
        if design.preactivation {
            let normalised = self.batch_normalisation(&features, "bn");
            features = self.relu(&normalised, "relu");
        }
        features
    }

    /// The convolutions of a block, without names: outputs, kernel, stride, groups.
    fn branch(design: &Design, width: usize, stride: usize) -> Vec<[usize; 4]> {
        if !design.bottleneck {
            return vec![[width, 3, stride, 1], [width, 3, 1, 1]];
        }
        let inner = width * design.widen;
        let (first, second) = if design.stride_first { (stride, 1) } else { (1, stride) };
        vec![[inner, 1, first, 1], [inner, 3, second, design.groups], [width * 4, 1, 1, 1]]
    }

    /// A block of v1 or v1.5: the `Relu` comes after the addition.
    fn block(
        &mut self,
        design: &Design,
        name: &str,
        input: &Features,
        width: usize,
        stride: usize,
    ) -> Features {
        let mut main = input.clone();
        let branch = Self::branch(design, width, stride);
        for (index, &[outputs, kernel, stride, groups]) in branch.iter().enumerate() {
            let last = index + 1 == branch.len();
            let number = index + 1;
            let layer = Layer {
                name: &format!("{name}.conv{number}"),
                outputs,
                kernel,
                stride,
                groups,
                gain: if last { BRANCH } else { 1.0 },
            };
            main = self.convolution_normalised(&main, &layer, &format!("{name}.bn{number}"));
            if !last {
                main = self.relu(&main, &format!("{name}.relu{number}"));
            }
        }
        let shortcut = self.shortcut(design, name, input, main.channels, stride);
        main.tensor = self.node("Add", &format!("{name}.add"), &[&main.tensor, &shortcut.tensor], vec![]);
        self.relu(&main, &format!("{name}.relu"))
    }

    /// A block of v2: batch normalisation and `Relu` come before each convolution, and the sum
    /// goes on as it is.
    fn block_v2(
        &mut self,
        design: &Design,
        name: &str,
        input: &Features,
        width: usize,
        stride: usize,
    ) -> Features {
        let mut main = input.clone();
        let mut activated = None;
        let branch = Self::branch(design, width, stride);
        for (index, &[outputs, kernel, stride, groups]) in branch.iter().enumerate() {
            let number = index + 1;
            main = self.batch_normalisation(&main, &format!("{name}.bn{number}"));
            main = self.relu(&main, &format!("{name}.relu{number}"));
            activated.get_or_insert_with(|| main.clone());
            let layer = Layer {
                name: &format!("{name}.conv{number}"),
                outputs,
                kernel,
                stride,
                groups,
                gain: if index + 1 == branch.len() { BRANCH } else { 1.0 },
            };
            main = self.convolution(&main, &layer, false);
        }
        // A projection starts from the activated input.
        let changes = input.channels != main.channels || stride != 1;
        let source = activated.filter(|_| changes).unwrap_or_else(|| input.clone());
        let shortcut = self.shortcut(design, name, &source, main.channels, stride);
        main.tensor = self.node("Add", &format!("{name}.add"), &[&main.tensor, &shortcut.tensor], vec![]);
        main
    }

    fn shortcut(
        &mut self,
        design: &Design,
        name: &str,
        input: &Features,
        outputs: usize,
        stride: usize,
    ) -> Features {
        if input.channels == outputs && stride == 1 {
            return input.clone();
        }
        match design.shortcut {
            Shortcut::Projection => {
                let layer = Layer {
                    name: &format!("{name}.downsample.0"),
                    outputs,
                    kernel: 1,
                    stride,
                    groups: 1,
                    gain: 1.0,
                };
                if design.preactivation {
                    self.convolution(input, &layer, false)
                } else {
                    self.convolution_normalised(input, &layer, &format!("{name}.downsample.1"))
                }
            }
            Shortcut::Padded => self.padded_shortcut(design, name, input, outputs, stride as i64),
        }
    }

    /// Every `stride`-th position, with zero channels on both sides.
    fn padded_shortcut(
        &mut self,
        design: &Design,
        name: &str,
        input: &Features,
        outputs: usize,
        stride: i64,
    ) -> Features {
        let slice = format!("{name}.slice");
        if design.opset < 10 {
            // Slice has no steps yet: a max pool over one position does the same.
            let window = vec![integers("kernel_shape", &[1, 1]), integers("strides", &[stride, stride])];
            self.node("MaxPool", &slice, &[&input.tensor], window);
        } else {
            let arguments: [(&str, [i64; 2]); 4] = [
                ("starts", [0, 0]),
                ("ends", [i64::MAX, i64::MAX]),
                ("axes", [2, 3]),
                ("steps", [stride, stride]),
            ];
            let names = arguments.map(|(argument, values)| {
                let constant = format!("{slice}.{argument}");
                self.graph.initializer.push(integer_tensor(&constant, &values));
                constant
            });
            let inputs: Vec<&str> =
                std::iter::once(input.tensor.as_str()).chain(names.iter().map(String::as_str)).collect();
            self.node("Slice", &slice, &inputs, vec![]);
        }
        let missing = (outputs - input.channels) as i64;
        let pads = [0, missing / 2, 0, 0, 0, missing - missing / 2, 0, 0];
        let padded = format!("{name}.pad");
        if design.opset < 11 {
            self.node("Pad", &padded, &[&slice], vec![integers("pads", &pads)]);
        } else {
            let constant = format!("{padded}.pads");
            self.graph.initializer.push(integer_tensor(&constant, &pads));
            self.node("Pad", &padded, &[&slice, &constant], vec![]);
        }
        Features { tensor: padded, channels: outputs }
    }

    /// A convolution with batch normalisation: of its own, or folded into weights and bias.
    fn convolution_normalised(
        &mut self,
        input: &Features,
        layer: &Layer<'_>,
        normalisation: &str,
    ) -> Features {
        let output = self.convolution(input, layer, !self.normalise);
        if self.normalise { self.batch_normalisation(&output, normalisation) } else { output }
    }

    fn convolution(&mut self, input: &Features, layer: &Layer<'_>, bias: bool) -> Features {
        let per_group = input.channels / layer.groups;
        // He et al. 2015, "Delving deep into rectifiers", equation 10.
        let fan_in = per_group * layer.kernel * layer.kernel;
        let deviation = layer.gain * libm::sqrt(2.0 / fan_in as f64);
        let weight = format!("{}.weight", layer.name);
        self.normal(&weight, &[layer.outputs, per_group, layer.kernel, layer.kernel], 0.0, deviation);
        let mut inputs = vec![input.tensor.clone(), weight];
        if bias {
            let name = format!("{}.bias", layer.name);
            self.normal(&name, &[layer.outputs], 0.0, BIAS * layer.gain);
            inputs.push(name);
        }
        let pad = (layer.kernel / 2) as i64;
        let [kernel, stride, groups] = [layer.kernel, layer.stride, layer.groups].map(|v| v as i64);
        let attributes = vec![
            integers("dilations", &[1, 1]),
            integer("group", groups),
            integers("kernel_shape", &[kernel, kernel]),
            integers("pads", &[pad; 4]),
            integers("strides", &[stride, stride]),
        ];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let tensor = self.node("Conv", layer.name, &inputs, attributes);
        Features { tensor, channels: layer.outputs }
    }

    fn batch_normalisation(&mut self, input: &Features, name: &str) -> Features {
        let channels = [input.channels];
        let parameters = ["weight", "bias", "running_mean", "running_var"].map(|p| format!("{name}.{p}"));
        self.normal(&parameters[0], &channels, 1.0, 0.1);
        self.normal(&parameters[1], &channels, 0.0, BIAS);
        self.normal(&parameters[2], &channels, 0.0, BIAS);
        let variance: Vec<f32> =
            (0..input.channels).map(|_| (0.75 + 0.5 * self.random.uniform()) as f32).collect();
        self.graph.initializer.push(float_tensor(&parameters[3], &channels, &variance));
        let inputs: Vec<&str> =
            std::iter::once(input.tensor.as_str()).chain(parameters.iter().map(String::as_str)).collect();
        let tensor = self.node("BatchNormalization", name, &inputs, vec![float("epsilon", 1e-5)]);
        Features { tensor, channels: input.channels }
    }

    fn relu(&mut self, input: &Features, name: &str) -> Features {
        let tensor = self.node("Relu", name, &[&input.tensor], vec![]);
        Features { tensor, channels: input.channels }
    }

    /// An initialiser of normally distributed values, none of them zero.
    fn normal(&mut self, name: &str, dims: &[usize], mean: f64, deviation: f64) {
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| {
                let value = (mean + deviation * self.random.normal()) as f32;
                if value == 0.0 { f32::MIN_POSITIVE } else { value }
            })
            .collect();
        self.graph.initializer.push(float_tensor(name, dims, &values));
    }

    /// Adds a node whose only output has its name, and returns that.
    fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            op_type: operator.into(),
            name: name.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![name.into()],
            attribute,
            ..Default::default()
        });
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes() {
        let bytes = |seed| synth(Architecture::TinyBasic, seed).encode_to_vec();
        assert_eq!(bytes(3), bytes(3));
        assert_ne!(bytes(3), bytes(4));
    }

    #[test]
    fn names_are_read_back() {
        for architecture in Architecture::ALL {
            assert_eq!(architecture.name().parse::<Architecture>().unwrap(), architecture);
        }
        let error = "resnet51".parse::<Architecture>().unwrap_err().to_string();
        assert!(error.contains("resnet51") && error.contains("resnet152"), "{error}");
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.onnx");
        let model = synth(Architecture::TinyBasic, 1);
        write(&model, &path).unwrap();
        assert_eq!(ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap(), model);
        let error = write(&model, &path.join("y.onnx")).unwrap_err().to_string();
        assert!(error.contains("y.onnx"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
