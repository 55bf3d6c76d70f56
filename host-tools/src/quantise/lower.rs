//! From a float graph and its ranges to the int8 graph.

use std::collections::HashMap;
use std::hash::BuildHasher;

use resight_imaging::Preprocessing;
use resight_kernels::arithmetic::{
    MAX_RESIDUAL_MULTIPLIER, MAX_SHIFT, accumulator_bound, quantise_multipliers,
};
use resight_kernels::{ConvolutionShape, MAX_AVERAGE_FRACTION_BITS, PoolShape};
use resight_runtime::operators::{Convolution, GlobalAverage, Linear, MaxPool, Quantisation};
use serde::Serialize;
use tract_onnx::prelude::tract_ndarray::Array4;
use tract_onnx::tract_core::internal::*;

use super::QuantiseError;
use super::range::quantisation;
use crate::graph::{FloatConvolution, FloatGraph, Node, NodeId, Operator};

/// One step of Q8.
const Q8: f64 = 256.0;
/// A channel's accumulator is at least this much finer than nothing: keeps `bias / scale` of
/// a channel whose weights vanish from overflowing.
const BIAS_LIMIT: f64 = (1u32 << 26) as f64;

/// What is known of each node before lowering: its range and the mean of its channels.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// The range `[low, high]` of the output, for nodes that are quantised.
    pub range: (f64, f64),
    /// Mean of each output channel.
    pub means: Vec<f64>,
}

/// One line of the quantisation report.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// Output scale.
    pub scale: f32,
    /// Output zero point.
    pub zero_point: i32,
    /// Smallest and largest output seen in calibration.
    pub observed: (f32, f32),
    /// Signal to noise ratio of the quantised weights, decibel.
    pub weights_sqnr_db: f64,
    /// Signal to noise ratio of the output against f32 over a few calibration images, decibel.
    pub output_sqnr_db: Option<f64>,
}

/// How the real value of a tensor follows from its int8 values, channel by channel.
#[derive(Debug, Clone)]
enum Encoding {
    /// One scale and zero point.
    Tensor(Quantisation),
    /// The image: every channel its own scale and fractional zero point, see [`image_encoding`].
    Image { scale: Vec<f64>, zero_point: Vec<f64> },
    /// Averages: value = scale * (q / 2^bits - zero point).
    Average { quantisation: Quantisation, fraction_bits: u32 },
}

impl Encoding {
    fn scale(&self, channel: usize) -> f64 {
        match self {
            Self::Tensor(q) => f64::from(q.scale),
            Self::Image { scale, .. } => scale[channel],
            Self::Average { quantisation, fraction_bits } => {
                f64::from(quantisation.scale) / f64::from(1u32 << fraction_bits)
            }
        }
    }

    fn zero_point(&self, channel: usize) -> f64 {
        match self {
            Self::Tensor(q) => f64::from(q.zero_point),
            Self::Image { zero_point, .. } => zero_point[channel],
            Self::Average { quantisation, fraction_bits } => {
                f64::from(quantisation.zero_point) * f64::from(1u32 << fraction_bits)
            }
        }
    }
}

/// The image is kept as `grey level - 128`: nothing is lost. Normalisation becomes a scale
/// and a zero point for each channel, which the first layer folds into its weights and bias.
fn image_encoding(preprocessing: &Preprocessing) -> Encoding {
    let channels = 0..preprocessing.mean.len();
    let deviation = |c: usize| f64::from(preprocessing.standard_deviation[c]);
    Encoding::Image {
        scale: channels.clone().map(|c| 1.0 / (255.0 * deviation(c))).collect(),
        zero_point: channels.map(|c| 255.0 * f64::from(preprocessing.mean[c]) - 128.0).collect(),
    }
}

/// The int8 graph and what to say about it.
#[derive(Debug)]
pub struct Lowered {
    /// A tract model of our operators.
    pub model: TypedModel,
    /// The layers with weights, in order.
    pub layers: Vec<LayerReport>,
}

/// Lowers `graph` with what calibration found of each node.
///
/// # Errors
/// Names the layer that the int8 arithmetic cannot hold.
pub fn lower(
    graph: &FloatGraph,
    calibrated: &HashMap<NodeId, Calibrated, impl BuildHasher>,
    preprocessing: &Preprocessing,
) -> Result<Lowered, QuantiseError> {
    Lowering {
        graph,
        calibrated,
        names: unique_names(graph),
        model: TypedModel::default(),
        values: vec![],
        layers: vec![],
    }
    .run(preprocessing)
}

struct Lowering<'a, S> {
    graph: &'a FloatGraph,
    calibrated: &'a HashMap<NodeId, Calibrated, S>,
    names: Vec<String>,
    model: TypedModel,
    values: Vec<(OutletId, Encoding)>,
    layers: Vec<LayerReport>,
}

impl<S: BuildHasher> Lowering<'_, S> {
    fn run(mut self, preprocessing: &Preprocessing) -> Result<Lowered, QuantiseError> {
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let name = self.names[id].clone();
            let value = match &node.operator {
                Operator::Input => {
                    let [channels, height, width] = node.shape;
                    let fact = DatumType::I8.fact([1, height, width, channels]);
                    let outlet = self.model.add_source(&name, fact).map_err(|e| at(node, &e))?;
                    (outlet, image_encoding(preprocessing))
                }
                Operator::Convolution(convolution) => self.convolution(id, node, &name, convolution)?,
                Operator::MaxPool { kernel, stride, padding } => {
                    let (input, encoding) = self.values[node.inputs[0]].clone();
                    let op = MaxPool { kernel: *kernel, stride: *stride, padding: *padding };
                    let shape = PoolShape {
                        input: nhwc(self.graph.nodes[node.inputs[0]].shape),
                        kernel: *kernel,
                        stride: *stride,
                        padding: *padding,
                    };
                    shape.validate().map_err(|e| at(node, &e))?;
                    (self.wire(node, &name, op, &[input])?, encoding)
                }
                Operator::GlobalAverage => {
                    let (input, encoding) = self.values[node.inputs[0]].clone();
                    let Encoding::Tensor(quantisation) = encoding else {
                        return Err(at(node, &"the average must follow an int8 layer"));
                    };
                    let fraction_bits = self.average_bits(id);
                    let outlet = self.wire(node, &name, GlobalAverage { fraction_bits }, &[input])?;
                    (outlet, Encoding::Average { quantisation, fraction_bits })
                }
                Operator::Linear { weights, bias } => self.linear(node, &name, weights, bias)?,
            };
            self.values.push(value);
        }
        let Some((output, _)) = self.values.last() else {
            return Err(QuantiseError::Empty);
        };
        self.model.select_output_outlets(&[*output]).map_err(QuantiseError::tract)?;
        Ok(Lowered { model: self.model, layers: self.layers })
    }

    fn wire(
        &mut self,
        node: &Node,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> Result<OutletId, QuantiseError> {
        let outlets = self.model.wire_node(name, op, inputs).map_err(|e| at(node, &format!("{e:#}")))?;
        Ok(outlets[0])
    }

    /// The range that calibration found for a node.
    fn calibration(&self, id: NodeId, node: &Node) -> Result<&Calibrated, QuantiseError> {
        self.calibrated.get(&id).ok_or_else(|| at(node, &"the layer was not calibrated"))
    }

    fn convolution(
        &mut self,
        id: NodeId,
        node: &Node,
        name: &str,
        convolution: &FloatConvolution,
    ) -> Result<(OutletId, Encoding), QuantiseError> {
        let (input, encoding) = self.values[node.inputs[0]].clone();
        let input_node = &self.graph.nodes[node.inputs[0]];
        let shape = ConvolutionShape {
            input: nhwc(input_node.shape),
            output_channels: node.shape[0],
            kernel: convolution.kernel,
            stride: convolution.stride,
            padding: convolution.padding,
            dilation: convolution.dilation,
            groups: convolution.groups,
        };
        shape.validate().map_err(|e| at(node, &e))?;
        let residual = match (convolution.residual, node.inputs.get(1)) {
            (true, Some(&residual)) => Some(self.values[residual].clone()),
            (false, _) => None,
            (true, None) => return Err(at(node, &"the residual is missing")),
        };
        let residual_quantisation = match &residual {
            None => None,
            Some((_, Encoding::Tensor(quantisation))) => Some(*quantisation),
            Some(_) => {
                return Err(at(node, &"the image itself cannot be a residual; put a convolution between"));
            }
        };
        let calibration = self.calibration(id, node)?;
        let means = self.calibrated.get(&node.inputs[0]).map(|c| c.means.as_slice());

        let rows = real_weights(&shape, convolution, &encoding);
        let mut wanted = f64::from(quantisation(calibration.range.0, calibration.range.1).scale);
        let zero_point = if convolution.relu {
            -128
        } else {
            quantisation(calibration.range.0, calibration.range.1).zero_point
        };
        // A larger output scale always helps the arithmetic to hold the layer.
        let quantised = loop {
            if !(wanted.is_finite() && wanted < f64::from(f32::MAX) / 4.0) {
                return Err(at(node, &"no output scale lets its accumulators fit 32 bits"));
            }
            let output = Quantisation { scale: wanted as f32, zero_point };
            match quantise_rows(
                &shape,
                &rows,
                &convolution.bias,
                &encoding,
                residual_quantisation,
                means,
                output,
            ) {
                Some(quantised) => break quantised,
                None => wanted *= 1.25,
            }
        };
        let padding_value: Vec<i8> =
            (0..shape.input[2]).map(|c| encoding.zero_point(c).round().clamp(-128.0, 127.0) as i8).collect();
        let depth = shape.group_channels();
        let weights = Array4::from_shape_vec(
            (shape.output_channels, shape.kernel[0], shape.kernel[1], depth),
            quantised.weights,
        )
        .map_err(|e| at(node, &e))?;
        let op = Convolution {
            weights: weights.into_arc_tensor(),
            bias: tensor1(&quantised.bias).into_arc_tensor(),
            multiplier: tensor1(&quantised.multiplier).into_arc_tensor(),
            padding_value: tensor1(&padding_value).into_arc_tensor(),
            shift: quantised.shift,
            residual_multiplier: quantised.residual_multiplier,
            stride: shape.stride,
            padding: shape.padding,
            dilation: shape.dilation,
            groups: shape.groups,
            output: quantised.output,
        };
        let mut inputs = vec![input];
        inputs.extend(residual.map(|(outlet, _)| outlet));
        let outlet = self.wire(node, name, op, &inputs)?;
        self.layers.push(LayerReport {
            name: name.to_owned(),
            scale: quantised.output.scale,
            zero_point: quantised.output.zero_point,
            observed: (0.0, 0.0),
            weights_sqnr_db: quantised.weights_sqnr_db,
            output_sqnr_db: None,
        });
        Ok((outlet, Encoding::Tensor(quantised.output)))
    }

    /// The most fractional bits with which the linear layer behind this average cannot overflow.
    fn average_bits(&self, id: NodeId) -> u32 {
        let features = self.graph.nodes[id].shape[0] as i64;
        // Each product is at most 127 * 128 * 2^bits; the bias takes as much again at worst.
        (0..=MAX_AVERAGE_FRACTION_BITS)
            .rev()
            .find(|&bits| features * 127 * (128 << bits) * 2 <= i64::from(i32::MAX))
            .unwrap_or(0)
    }

    fn linear(
        &mut self,
        node: &Node,
        name: &str,
        weights: &[f32],
        bias: &[f32],
    ) -> Result<(OutletId, Encoding), QuantiseError> {
        let (input, encoding) = self.values[node.inputs[0]].clone();
        let Encoding::Average { fraction_bits, .. } = encoding else {
            return Err(at(node, &"the linear layer must follow the global average"));
        };
        let (inputs, outputs) = (self.graph.nodes[node.inputs[0]].shape[0], bias.len());
        let means = self.calibrated.get(&node.inputs[0]).map(|c| c.means.as_slice());
        let mut packed = Vec::with_capacity(weights.len());
        let (mut biases, mut scales) = (vec![], vec![]);
        let mut noise = Noise::default();
        for (row, &bias) in weights.chunks_exact(inputs).zip(bias) {
            let row: Vec<f64> = row.iter().map(|&w| f64::from(w) * encoding.scale(0)).collect();
            let largest = row.iter().fold(0.0f64, |m, w| m.max(w.abs()));
            // As f32 from here on: the scale that is stored is the one that was used.
            let scale = (largest / 127.0).max(f64::from(bias.abs()) / BIAS_LIMIT).max(1e-30) as f32;
            let quantised = quantise_row(&row, f64::from(scale));
            let correction = means.map_or(0.0, |means| {
                bias_correction(&row, &quantised, f64::from(scale), |i| means[i] / encoding.scale(0))
            });
            noise.add(&row, &quantised, f64::from(scale));
            let sum: i64 = quantised.iter().map(|&w| i64::from(w)).sum();
            let folded =
                (f64::from(bias) + correction) / f64::from(scale) - sum as f64 * encoding.zero_point(0);
            biases.push(folded.round() as i32);
            scales.push(scale);
            packed.extend(quantised);
        }
        let op = Linear {
            weights: tract_ndarray::Array2::from_shape_vec((outputs, inputs), packed)
                .map_err(|e| at(node, &e))?
                .into_arc_tensor(),
            bias: tensor1(&biases).into_arc_tensor(),
            scale: tensor1(&scales).into_arc_tensor(),
            input_limit: 128i16 << fraction_bits,
        };
        let outlet = self.wire(node, name, op, &[input])?;
        self.layers.push(LayerReport {
            name: name.to_owned(),
            scale: 1.0,
            zero_point: 0,
            observed: (0.0, 0.0),
            weights_sqnr_db: noise.sqnr_db(),
            output_sqnr_db: None,
        });
        Ok((outlet, encoding))
    }
}

/// Weights in units of the input's int8 steps, `[output channel][kernel y][kernel x][channel]`.
fn real_weights(
    shape: &ConvolutionShape,
    convolution: &FloatConvolution,
    encoding: &Encoding,
) -> Vec<Vec<f64>> {
    let depth = shape.group_channels();
    let taps = shape.kernel[0] * shape.kernel[1];
    let group_outputs = shape.output_channels / shape.groups;
    let row = |(output, weights): (usize, &[f32])| {
        let first = output / group_outputs * depth;
        let at = |tap: usize, channel: usize| {
            f64::from(weights[channel * taps + tap]) * encoding.scale(first + channel)
        };
        (0..taps).flat_map(|tap| (0..depth).map(move |channel| at(tap, channel))).collect()
    };
    convolution.weights.chunks_exact(depth * taps).enumerate().map(row).collect()
}

fn quantise_row(row: &[f64], scale: f64) -> Vec<i8> {
    row.iter().map(|w| (w / scale).round().clamp(-127.0, 127.0) as i8).collect()
}

/// What the rounding of the weights adds to the output on average (Nagel et al., "Data-free
/// quantization through weight equalization and bias correction", 2019), with opposite sign:
/// `sum((w - w_quantised) * mean)`, means in steps of the input.
fn bias_correction(row: &[f64], quantised: &[i8], scale: f64, mean: impl Fn(usize) -> f64) -> f64 {
    row.iter().zip(quantised).enumerate().map(|(i, (w, &q))| (w - f64::from(q) * scale) * mean(i)).sum()
}

#[derive(Default)]
struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    fn add(&mut self, row: &[f64], quantised: &[i8], scale: f64) {
        for (w, &q) in row.iter().zip(quantised) {
            self.signal += w * w;
            self.noise += (w - f64::from(q) * scale).powi(2);
        }
    }

    fn sqnr_db(&self) -> f64 {
        super::sqnr_db(self.signal, self.noise)
    }
}

struct QuantisedConvolution {
    weights: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: u32,
    residual_multiplier: Option<i32>,
    output: Quantisation,
    weights_sqnr_db: f64,
}

/// Quantises every channel for the wanted output. None where an accumulator could overflow or
/// a multiplier does not fit: a larger output scale is needed.
fn quantise_rows(
    shape: &ConvolutionShape,
    rows: &[Vec<f64>],
    bias: &[f32],
    encoding: &Encoding,
    residual: Option<Quantisation>,
    means: Option<&[f64]>,
    wanted: Quantisation,
) -> Option<QuantisedConvolution> {
    // The output's scale is moved by at most half a Q8 step, so that the residual's
    // multiplier is a whole number and the residual path adds no error of its own.
    let (scale, residual_multiplier) = match residual {
        None => (f64::from(wanted.scale), None),
        Some(residual) => {
            let residual_scale = f64::from(residual.scale);
            let multiplier = (residual_scale * Q8 / f64::from(wanted.scale)).round();
            let multiplier = multiplier.clamp(1.0, f64::from(MAX_RESIDUAL_MULTIPLIER));
            (residual_scale * Q8 / multiplier, Some(multiplier as i32))
        }
    };
    let depth = shape.group_channels();
    let group_outputs = shape.output_channels / shape.groups;
    let mut weights = Vec::with_capacity(shape.weights_len());
    let (mut biases, mut real_multipliers) = (vec![], vec![]);
    let mut noise = Noise::default();
    for (output, row) in rows.iter().enumerate() {
        let first = output / group_outputs * depth;
        let largest = row.iter().fold(0.0f64, |m, w| m.max(w.abs()));
        let reach = f64::from(bias[output].abs()) + Q8 * scale;
        let row_scale = (largest / 127.0).max(reach / BIAS_LIMIT);
        let quantised = quantise_row(row, row_scale);
        let channel = |i: usize| first + i % depth;
        let correction = means.map_or(0.0, |means| {
            bias_correction(row, &quantised, row_scale, |i| means[channel(i)] / encoding.scale(channel(i)))
        });
        noise.add(row, &quantised, row_scale);
        let multiplier = row_scale / scale;
        let zero: f64 =
            quantised.iter().enumerate().map(|(i, &w)| f64::from(w) * encoding.zero_point(channel(i))).sum();
        let residual_zero = match (residual, residual_multiplier) {
            (Some(residual), Some(m)) => f64::from(residual.zero_point) * f64::from(m) / Q8,
            _ => 0.0,
        };
        let folded = (f64::from(bias[output]) + correction) / row_scale - zero
            + (f64::from(wanted.zero_point) - residual_zero) / multiplier;
        if folded.abs() >= f64::from(i32::MAX) {
            return None;
        }
        biases.push(folded.round() as i32);
        real_multipliers.push(multiplier);
        weights.extend(quantised);
    }
    let (shift, multiplier) = quantise_multipliers(&real_multipliers)?;
    debug_assert!(shift <= MAX_SHIFT);
    let limit = i64::from(i32::MAX) >> shift;
    let fits = weights
        .chunks_exact(shape.depth())
        .zip(&biases)
        .all(|(row, &bias)| accumulator_bound(row.iter().copied(), bias) <= limit);
    fits.then(|| QuantisedConvolution {
        weights,
        bias: biases,
        multiplier,
        shift,
        residual_multiplier,
        output: Quantisation { scale: scale as f32, zero_point: wanted.zero_point },
        weights_sqnr_db: noise.sqnr_db(),
    })
}

fn nhwc([channels, height, width]: [usize; 3]) -> [usize; 3] {
    [height, width, channels]
}

fn at(node: &Node, cause: &impl ToString) -> QuantiseError {
    QuantiseError::Layer { layer: node.name.clone(), cause: cause.to_string() }
}

/// Names that are safe in NNEF and as members of the model file, each once.
pub(super) fn unique_names(graph: &FloatGraph) -> Vec<String> {
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
