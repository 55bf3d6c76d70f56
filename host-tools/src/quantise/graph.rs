//! The float graph with what the passes find out about each of its nodes.

use std::collections::HashMap;

use resight_imaging::Preprocessing;
use resight_kernels::arithmetic::FRACTION_BITS;
use resight_kernels::{ConvolutionShape, MAX_AVERAGE_FRACTION_BITS, PoolShape};
use resight_runtime::Quantisation;

use super::error::{LayerFault, QuantiseError};
use super::noise::Noise;
use super::steps::Steps;
use crate::graph::{FloatConvolution, FloatGraph, Node, NodeId, Operator};
use crate::weights::{Block, Weights};

/// One step of Q8, the fixed-point number between multiplication and rounding.
pub const Q8: f64 = (1u32 << FRACTION_BITS) as f64;

/// How the real value of a tensor follows from its integers, channel by channel:
/// `real = scale * (q - zero_point)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoding {
    /// One scale and zero point.
    Tensor(Quantisation),
    /// The image: `q` is the grey level - 128, so nothing is lost. Normalisation is a scale and
    /// a fractional zero point for each channel, which the first layer folds into its weights
    /// and bias.
    Image {
        /// One per channel.
        scale: Vec<f64>,
        /// One per channel.
        zero_point: Vec<f64>,
    },
    /// Averages: `q` is an int8 mean with fractional bits.
    Average {
        /// Of the tensor that was averaged.
        quantisation: Quantisation,
        /// Fractional bits.
        fraction_bits: u32,
    },
}

impl Encoding {
    /// That of the image that `preprocessing` makes.
    pub fn image(preprocessing: &Preprocessing) -> Self {
        let channels = 0..preprocessing.channels.count();
        let deviation = |c: usize| f64::from(preprocessing.standard_deviation[c]);
        Self::Image {
            scale: channels.clone().map(|c| 1.0 / (255.0 * deviation(c))).collect(),
            zero_point: channels.map(|c| 255.0 * f64::from(preprocessing.mean[c]) - 128.0).collect(),
        }
    }

    /// The same for the output of an operator that [keeps values](Operator::keeps_values).
    #[must_use]
    pub fn of_channels(&self, operator: &Operator) -> Self {
        match (self, operator) {
            (Self::Image { scale, zero_point }, Operator::Channels(order)) => Self::Image {
                scale: order.iter().map(|&channel| scale[channel]).collect(),
                zero_point: order.iter().map(|&channel| zero_point[channel]).collect(),
            },
            _ => self.clone(),
        }
    }

    /// Scale and zero point, where all channels have the same.
    pub fn tensor(&self) -> Option<Quantisation> {
        match self {
            Self::Tensor(quantisation) => Some(*quantisation),
            _ => None,
        }
    }

    /// What one step is worth in a channel.
    pub fn scale(&self, channel: usize) -> f64 {
        match self {
            Self::Tensor(q) => f64::from(q.scale),
            Self::Image { scale, .. } => scale[channel],
            Self::Average { quantisation, fraction_bits } => {
                f64::from(quantisation.scale) / f64::from(1u32 << fraction_bits)
            }
        }
    }

    /// Which number stands for zero in a channel.
    pub fn zero_point(&self, channel: usize) -> f64 {
        match self {
            Self::Tensor(q) => f64::from(q.zero_point),
            Self::Image { zero_point, .. } => zero_point[channel],
            Self::Average { quantisation, fraction_bits } => {
                f64::from(quantisation.zero_point) * f64::from(1u32 << fraction_bits)
            }
        }
    }

    /// What padding reads as in a channel.
    pub fn padding(&self, channel: usize) -> i8 {
        self.zero_point(channel).round().clamp(-128.0, 127.0) as i8
    }
}

/// The output of a convolution, as its arithmetic has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// Real value of a step; the encoding holds it rounded to `f32`.
    pub scale: f64,
    /// In `[-128, 127]`.
    pub zero_point: i32,
    /// Q8 multiplier of the residual.
    pub residual_multiplier: Option<i32>,
}

/// The integers that are constants of a layer's output channels.
#[derive(Debug, Clone, PartialEq)]
pub enum Folded {
    /// Of a convolution, see [`resight_kernels::arithmetic`].
    Convolution {
        /// One per output channel.
        bias: Vec<i32>,
        /// One per output channel.
        multiplier: Vec<i32>,
        /// Left shift of every accumulator.
        shift: u32,
    },
    /// Of the last layer.
    Linear {
        /// One per output.
        bias: Vec<i32>,
    },
}

/// What is known of one node. Passes fill it in, in the order of their list.
#[derive(Debug, Clone, Default)]
pub struct Annotation {
    /// A name that is safe in NNEF and as a member of the model file, different for each node.
    pub name: String,
    /// The range `[low, high]` that a convolution's int8 output is to cover.
    pub range: Option<(f64, f64)>,
    /// A convolution's output.
    pub output: Option<Output>,
    /// How the node's output is encoded; the logits are not.
    pub encoding: Option<Encoding>,
    /// What one step of a row's weights is worth, for each row of [`LayerMatrix`].
    pub weight_scales: Vec<f64>,
    /// Weights in `[-127, 127]`, `[row][column]` of [`LayerMatrix`].
    pub weights: Steps,
    /// The weights against the real ones, once they are in a network and no longer here.
    pub weights_noise: Option<Noise>,
    /// What is added to the float bias of each row.
    pub bias_correction: Vec<f64>,
    /// What a convolution without a residual gets as one at each position, apart from the bias: a value for
    /// all channels, such as the output's zero point, or one for each, parts of a step; empty where there is none.
    pub residual_values: Vec<i8>,
    /// Whether a table rounds halves to the even number, as ONNX does, and not away from zero.
    pub halves_to_even: bool,
    /// The integers of the epilogue.
    pub folded: Option<Folded>,
    /// Of the last layer: what its logits are divided by.
    pub temperature: Option<f64>,
    /// The output against f32, over the images that were compared.
    pub output_noise: Option<Noise>,
}

/// A layer with weights as a matrix: a row for each output channel, a column for each tap and
/// input channel of the group, `[kernel y][kernel x][channel]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerMatrix {
    /// Output channels.
    pub rows: usize,
    /// Taps x channels of a group.
    pub columns: usize,
    /// Taps of the kernel.
    pub taps: usize,
    /// Groups; rows are divided among them evenly.
    pub groups: usize,
}

impl LayerMatrix {
    /// Input channels of a group.
    pub fn group_channels(&self) -> usize {
        self.columns / self.taps
    }

    /// Output channels of a group.
    pub fn group_rows(&self) -> usize {
        self.rows / self.groups
    }

    /// The input channel that a column of a row reads.
    pub fn input_channel(&self, row: usize, column: usize) -> usize {
        row / self.group_rows() * self.group_channels() + column % self.group_channels()
    }
}

/// A float graph and an [`Annotation`] for each of its nodes.
#[derive(Debug)]
pub struct QuantisationGraph<'a> {
    /// The network.
    pub float: &'a FloatGraph,
    /// By [`NodeId`].
    pub annotations: Vec<Annotation>,
}

/// More weights than these, 64 MiB, are packed once for all threads.
const SHARED_WEIGHTS: usize = 1 << 26;
/// So many weights are read at once, 4 MiB.
const BLOCK: usize = 1 << 20;

/// The weights of a layer as real numbers, of which a row is in memory.
pub struct RealRows<'a> {
    weights: Option<&'a Weights>,
    matrix: LayerMatrix,
    /// Of the input's channels.
    scales: Vec<f64>,
    /// The rows that were read last, with the first one's number.
    block: Option<(usize, Block<'a>)>,
    row: Vec<f64>,
}

impl RealRows<'_> {
    /// How many rows there are; none of a node without weights.
    pub fn len(&self) -> usize {
        self.weights.map_or(0, |weights| weights.len() / self.matrix.columns.max(1))
    }

    /// Whether the node has no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One row of weights, a number for each column.
    ///
    /// # Panics
    /// Where `row` is not below [`len`](Self::len).
    pub fn row(&mut self, row: usize) -> &[f64] {
        assert!(row < self.len(), "row {row} of {}", self.len());
        let LayerMatrix { columns, taps, .. } = self.matrix;
        let rows = (BLOCK / columns.max(1)).max(1);
        let first = row / rows * rows;
        if self.block.as_ref().is_none_or(|(known, _)| *known != first)
            && let Some(weights) = self.weights
        {
            // The old one goes before the new one comes.
            self.block = None;
            let end = (first + rows).min(self.len());
            self.block = Some((first, weights.block(first * columns..end * columns)));
        }
        let Some((_, block)) = &self.block else { return &[] };
        let weights = &block[(row - first) * columns..][..columns];
        let channels = self.matrix.group_channels();
        let scales = &self.scales[self.matrix.input_channel(row, 0)..][..channels];
        self.row.clear();
        self.row.extend((0..columns).map(|column| {
            let (tap, channel) = (column / channels, column % channels);
            f64::from(weights[channel * taps + tap]) * scales[channel]
        }));
        &self.row
    }

    /// All rows, one behind the other.
    pub fn all(&mut self) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.len() * self.matrix.columns);
        for row in 0..self.len() {
            all.extend_from_slice(self.row(row));
        }
        all
    }
}

impl<'a> QuantisationGraph<'a> {
    /// A graph of which nothing is known but its names and how the image is encoded.
    ///
    /// # Errors
    /// Names the node that the int8 arithmetic cannot hold, whatever calibration finds.
    pub fn new(float: &'a FloatGraph, preprocessing: &Preprocessing) -> Result<Self, QuantiseError> {
        let annotation = |name: String| Annotation { name, ..Annotation::default() };
        let mut graph =
            Self { float, annotations: unique_names(float).into_iter().map(annotation).collect() };
        for (id, node) in float.nodes.iter().enumerate() {
            graph.check(id).map_err(|fault| fault.of(node))?;
            if matches!(node.operator, Operator::Input) {
                graph.annotations[id].encoding = Some(Encoding::image(preprocessing));
            }
        }
        Ok(graph)
    }

    fn check(&self, id: NodeId) -> Result<(), LayerFault> {
        let node = &self.float.nodes[id];
        match &node.operator {
            Operator::Convolution(convolution) => {
                self.convolution_shape(id, convolution).validate()?;
                match (convolution.residual, node.inputs.get(1)) {
                    (true, None) => return Err(LayerFault::MissingResidual),
                    (true, Some(&residual)) if self.is_image(residual) => {
                        return Err(LayerFault::ImageResidual);
                    }
                    (false, _) | (true, Some(_)) => {}
                }
            }
            Operator::MaxPool { kernel, stride, padding } => {
                let input = nhwc(self.float.nodes[node.inputs[0]].shape);
                PoolShape { input, kernel: *kernel, stride: *stride, padding: *padding }.validate()?;
            }
            Operator::GlobalAverage | Operator::GeneralisedMean { .. } => {
                if self.is_image(node.inputs[0]) {
                    return Err(LayerFault::AverageOfImage);
                }
            }
            Operator::AveragePool { kernel, stride, padding, .. } => {
                let input = nhwc(self.float.nodes[node.inputs[0]].shape);
                PoolShape { input, kernel: *kernel, stride: *stride, padding: *padding }.validate()?;
                if self.is_image(node.inputs[0]) {
                    return Err(LayerFault::AverageOfImage);
                }
            }
            Operator::Add { .. } | Operator::Multiply | Operator::Normalise(_) => {
                if node.inputs.iter().any(|&input| self.is_image(input)) {
                    return Err(LayerFault::ImageResidual);
                }
            }
            Operator::View if self.is_image(node.inputs[0]) => return Err(LayerFault::ImageReshaped),
            Operator::Input
            | Operator::Table(_)
            | Operator::Concat
            | Operator::Channels(_)
            | Operator::View
            | Operator::Pad { .. }
            | Operator::Resize { .. }
            | Operator::Interleave(_)
            | Operator::Upsample(_) => {}
            Operator::Linear { .. } => {
                if !matches!(self.float.nodes[node.inputs[0]].operator, Operator::GlobalAverage) {
                    return Err(LayerFault::LinearWithoutAverage);
                }
            }
        }
        Ok(())
    }

    /// Whether a node gives the image itself, with a scale for each channel.
    fn is_image(&self, id: NodeId) -> bool {
        let node = &self.float.nodes[id];
        match node.operator {
            Operator::Input => true,
            _ if node.operator.keeps_values() => self.is_image(node.inputs[0]),
            _ => false,
        }
    }

    /// The nodes that take a node's output.
    pub fn users(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<'a> {
        let nodes = &self.float.nodes;
        (id + 1..nodes.len()).filter(move |&user| nodes[user].inputs.contains(&id))
    }

    /// A node of the network.
    pub fn node(&self, id: NodeId) -> &'a Node {
        &self.float.nodes[id]
    }

    /// The node that gives a node's first input.
    pub fn input(&self, id: NodeId) -> NodeId {
        self.float.nodes[id].inputs[0]
    }

    /// How many of these images one program runs at least: all of them where its weights are so many that
    /// another copy for each thread is too much.
    pub fn images_of_a_program(&self, images: usize) -> usize {
        let weights: usize = self.annotations.iter().map(|annotation| annotation.weights.len()).sum();
        if weights > SHARED_WEIGHTS { images.max(1) } else { 1 }
    }

    /// The nodes with weights, in order.
    pub fn layers(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        let layer = |node: &Node| matches!(node.operator, Operator::Convolution(_) | Operator::Linear { .. });
        let nodes = &self.float.nodes;
        (0..nodes.len()).filter(move |&id| layer(&nodes[id]))
    }

    /// The float biases of a layer, one per row; none for other nodes.
    pub fn bias(&self, id: NodeId) -> &'a [f32] {
        match &self.float.nodes[id].operator {
            Operator::Convolution(convolution) => &convolution.bias,
            Operator::Linear { bias, .. } => bias,
            _ => &[],
        }
    }

    /// How a convolution's inputs and outputs lie.
    pub fn convolution_shape(&self, id: NodeId, convolution: &FloatConvolution) -> ConvolutionShape {
        let node = &self.float.nodes[id];
        ConvolutionShape {
            input: nhwc(self.float.nodes[node.inputs[0]].shape),
            output_channels: node.shape[0],
            kernel: convolution.kernel,
            stride: convolution.stride,
            padding: convolution.padding,
            dilation: convolution.dilation,
            groups: convolution.groups,
        }
    }

    /// The shape of a layer's weights.
    pub fn matrix(&self, id: NodeId) -> LayerMatrix {
        let node = &self.float.nodes[id];
        let rows = node.shape[0];
        if let Operator::Convolution(convolution) = &node.operator {
            let taps = convolution.kernel[0] * convolution.kernel[1];
            let channels = self.float.nodes[node.inputs[0]].shape[0] / convolution.groups;
            LayerMatrix { rows, columns: taps * channels, taps, groups: convolution.groups }
        } else {
            let columns = node.inputs.first().map_or(1, |&input| self.float.nodes[input].shape[0]);
            LayerMatrix { rows, columns, taps: 1, groups: 1 }
        }
    }

    /// Sets a layer's rounded weights, `[row][column]` of [`matrix`](Self::matrix).
    ///
    /// # Errors
    /// Where these are not so many as the layer has.
    pub fn set_weights(&mut self, id: NodeId, weights: &[i8]) -> Result<(), QuantiseError> {
        let LayerMatrix { rows, columns, .. } = self.matrix(id);
        let steps = match &self.node(id).operator {
            Operator::Convolution(convolution) => {
                let shape = self.convolution_shape(id, convolution);
                Steps::new(&[rows, shape.kernel[0], shape.kernel[1], shape.group_channels()], weights)
            }
            _ => Steps::new(&[rows, columns], weights),
        };
        self.annotations[id].weights = steps.map_err(|error| LayerFault::graph(&error).of(self.node(id)))?;
        Ok(())
    }

    /// The weights of a layer in units of its input's steps, row by row of [`matrix`](Self::matrix): the
    /// sum over `weight * (q - zero point)` is the real result.
    ///
    /// # Errors
    /// An input that has no encoding yet.
    pub fn real_rows(&self, id: NodeId) -> Result<RealRows<'a>, QuantiseError> {
        let encoding = self.encoding(self.input(id))?;
        let matrix = self.matrix(id);
        let node: &'a Node = self.node(id);
        let weights = match &node.operator {
            Operator::Convolution(convolution) => Some(&convolution.weights),
            Operator::Linear { weights, .. } => Some(weights),
            _ => None,
        };
        let channels = matrix.group_channels() * matrix.groups;
        let scales = (0..channels).map(|channel| encoding.scale(channel)).collect();
        Ok(RealRows { weights, matrix, scales, block: None, row: vec![] })
    }

    /// How a node's output is encoded.
    ///
    /// # Errors
    /// A node whose scales were not chosen yet.
    pub fn encoding(&self, id: NodeId) -> Result<&Encoding, QuantiseError> {
        self.known(id, self.annotations[id].encoding.as_ref(), "encoding")
    }

    /// An annotation that an earlier pass must have made.
    ///
    /// # Errors
    /// [`LayerFault::PassOrder`] where it did not.
    pub fn known<T>(&self, id: NodeId, value: Option<T>, what: &'static str) -> Result<T, QuantiseError> {
        value.ok_or_else(|| LayerFault::PassOrder(what).of(self.node(id)))
    }

    /// The most fractional bits with which the linear layer behind this average cannot overflow.
    pub fn average_bits(&self, id: NodeId) -> u32 {
        let features = self.float.nodes[id].shape[0] as i64;
        // Each product is at most 127 * 128 * 2^bits; the bias takes as much again at worst.
        (0..=MAX_AVERAGE_FRACTION_BITS)
            .rev()
            .find(|&bits| features * 127 * (128 << bits) * 2 <= i64::from(i32::MAX))
            .unwrap_or(0)
    }
}

/// `[channels, height, width]` as `[height, width, channels]`.
pub fn nhwc([channels, height, width]: [usize; 3]) -> [usize; 3] {
    [height, width, channels]
}

/// The name of each node in NNEF and in the model file: safe, and different for each.
pub fn unique_names(graph: &FloatGraph) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    graph
        .nodes
        .iter()
        .map(|node| {
            let base: String = node.name.trim_matches('/').chars().map(clean).take(100).collect();
            let base =
                if base.starts_with(|c: char| c.is_ascii_alphabetic()) { base } else { format!("n_{base}") };
            let count = seen.entry(base.clone()).or_default();
            *count += 1;
            if *count == 1 { base } else { format!("{base}__{count}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, operator: Operator, inputs: &[NodeId], channels: usize) -> Node {
        let shape = [channels, 4, 4];
        Node { name: name.into(), operator, inputs: inputs.to_vec(), tensor: name.into(), shape }
    }

    /// A 1x1 convolution of three channels whose weights are their own index.
    fn convolution(residual: bool) -> Operator {
        Operator::Convolution(FloatConvolution {
            weights: (0..9).map(|weight| weight as f32).collect::<Vec<_>>().into(),
            bias: vec![0.0; 3],
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
            residual,
            relu: true,
            ceiling: None,
        })
    }

    fn new(nodes: Vec<Node>) -> (FloatGraph, Preprocessing) {
        (FloatGraph { name: "test".into(), nodes, outputs: vec![] }, Preprocessing::for_input(4, 4))
    }

    #[test]
    fn names_are_safe_and_differ() {
        let input = || node("/in put/", Operator::Input, &[], 3);
        let (float, _) = new(vec![input(), input(), node("7", Operator::GlobalAverage, &[], 3)]);
        assert_eq!(unique_names(&float), ["in_put", "in_put__2", "n_7"]);
    }

    #[test]
    fn what_can_never_fit_is_refused_before_calibration() {
        let refused = |operator: Operator, inputs: &[NodeId]| {
            let (float, preprocessing) =
                new(vec![node("image", Operator::Input, &[], 3), node("layer", operator, inputs, 3)]);
            QuantisationGraph::new(&float, &preprocessing).unwrap_err().to_string()
        };
        assert_eq!(
            refused(convolution(true), &[0, 0]),
            "layer `layer`: the image itself cannot be a residual; put a convolution between"
        );
        assert_eq!(refused(convolution(true), &[0]), "layer `layer`: the residual is missing");
        assert_eq!(
            refused(Operator::GlobalAverage, &[0]),
            "layer `layer`: the average must follow an int8 layer"
        );
        assert_eq!(
            refused(Operator::Linear { weights: Weights::default(), bias: vec![] }, &[0]),
            "layer `layer`: the linear layer must follow the global average"
        );
    }

    #[test]
    fn a_pass_that_comes_too_early_says_so() {
        let (float, preprocessing) =
            new(vec![node("image", Operator::Input, &[], 3), node("layer", convolution(false), &[0], 3)]);
        let graph = QuantisationGraph::new(&float, &preprocessing).unwrap();
        let error = graph.encoding(1).unwrap_err().to_string();
        assert!(error.contains("`layer`") && error.contains("no encoding yet"), "{error}");
    }

    #[test]
    fn weights_are_in_steps_of_the_image() {
        let (float, preprocessing) =
            new(vec![node("image", Operator::Input, &[], 3), node("layer", convolution(false), &[0], 3)]);
        let graph = QuantisationGraph::new(&float, &preprocessing).unwrap();
        let weights = graph.real_rows(1).unwrap().all();
        // 0.224 is ImageNet's deviation of green.
        let expected = 4.0 / (255.0 * f64::from(0.224f32));
        assert!((weights[4] - expected).abs() < 1e-12, "{} {expected}", weights[4]);
        assert_eq!(graph.layers().collect::<Vec<_>>(), [1]);
    }
}
