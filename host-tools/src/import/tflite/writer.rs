//! An ONNX graph while operators of TFLite become nodes of it: floats in the order of ONNX, `[batch, channels,
//! rows, columns]`, rounded between `QuantizeLinear` and `DequantizeLinear` where the file has integers.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::fault::TfliteFault;
use super::schema::{Kind, Network, Operator, Steps, Tensor};
use crate::import::quantised::{FIRST, STEP, TABLE};
use crate::onnx;

/// The order of a constant's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As they are.
    Same,
    /// `[output][row][column][input]` of a convolution.
    Convolution,
    /// `[1][row][column][channel]` of a depthwise one.
    Depthwise,
    /// `[output][feature]` of what was an image of so many rows, columns and channels.
    Flat([usize; 3]),
    /// One for each channel, or one for all: as it is broadcast to an image.
    Channels,
}

/// An ONNX graph while it is written.
pub(super) struct Writer<'a> {
    pub(super) network: &'a Network<'a>,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
    /// The floats of each tensor that was made so far.
    real: HashMap<i32, String>,
    /// Rows, columns and channels of what became a vector.
    flat: HashMap<i32, [usize; 3]>,
    count: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(network: &'a Network<'a>) -> Self {
        Self {
            network,
            nodes: vec![],
            constants: vec![],
            real: HashMap::new(),
            flat: HashMap::new(),
            count: 0,
        }
    }

    /// A name that nothing has.
    fn unused(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{}/{what}", self.count)
    }

    /// The floats of a tensor, if it was made.
    pub(super) fn made(&self, tensor: i32) -> Option<String> {
        self.real.get(&tensor).cloned()
    }

    /// Makes `name` the floats of a tensor.
    pub(super) fn set(&mut self, tensor: i32, name: String) {
        self.real.insert(tensor, name);
    }

    /// Rows, columns and channels of what became the vector.
    pub(super) fn flat_of(&self, tensor: i32) -> Option<[usize; 3]> {
        self.flat.get(&tensor).copied()
    }

    pub(super) fn set_flat(&mut self, tensor: i32, image: [usize; 3]) {
        self.flat.insert(tensor, image);
    }

    /// Adds a node and gives the name of its output.
    pub(super) fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.unused(operator);
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name: name.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        output
    }

    /// A constant of whole numbers.
    pub(super) fn integers(&mut self, what: &str, values: &[i64]) -> String {
        let name = self.unused(what);
        self.constants.push(onnx::of_i64(&name, values));
        name
    }

    /// A number as a constant.
    pub(super) fn number(&mut self, what: &str, value: f32) -> String {
        let name = self.unused(what);
        self.constants.push(onnx::of_f32(&name, &[], &[value]));
        name
    }

    /// Scales and zero points as constants.
    fn steps(&mut self, kind: Kind, steps: &Steps) -> [String; 2] {
        let [scale, zero] = [self.unused("scale"), self.unused("zero_point")];
        let dims: Vec<usize> = if steps.scales.len() == 1 { vec![] } else { vec![steps.scales.len()] };
        self.constants.push(onnx::of_f32(&scale, &dims, &steps.scales));
        let numbers = &steps.zero_points;
        self.constants.push(match kind {
            Kind::Uint8 => onnx::of_bytes(&zero, &dims, false, numbers.iter().map(|&z| z as u8).collect()),
            Kind::Int8 => onnx::of_bytes(&zero, &dims, true, numbers.iter().map(|&z| z as u8).collect()),
            _ => onnx::of_i32(&zero, &dims, &numbers.iter().map(|&z| z as i32).collect::<Vec<_>>()),
        });
        [scale, zero]
    }

    /// The number in a list for each integer from `least` on of what was rounded to these steps.
    pub(super) fn looked_up(
        &mut self,
        name: &str,
        real: &str,
        steps: &Steps,
        least: i64,
        numbers: &[f32],
    ) -> String {
        let list = self.unused("numbers");
        self.constants.push(onnx::of_f32(&list, &[numbers.len()], numbers));
        let zero = steps.zero_points.first().copied().unwrap_or(0);
        let step = steps.scales.first().copied().unwrap_or(1.0);
        let attributes = vec![onnx::float(STEP, step), onnx::integer(FIRST, least - zero)];
        self.node(name, TABLE, &[real, &list], attributes)
    }

    /// Makes `real`, an operator's result, that of its output: rounded if the file has it in integers.
    pub(super) fn finish(
        &mut self,
        operator: &Operator<'_>,
        name: &str,
        real: String,
    ) -> Result<(), TfliteFault> {
        let &[output] = operator.outputs.as_slice() else { return Err(TfliteFault::Output) };
        let rounded = self.rounded(output, name, real)?;
        self.set(output, rounded);
        Ok(())
    }

    /// Floats rounded to what a tensor holds.
    pub(super) fn rounded(&mut self, tensor: i32, name: &str, real: String) -> Result<String, TfliteFault> {
        let tensor = self.network.tensor(tensor).ok_or(TfliteFault::Output)?;
        if tensor.kind == Kind::Float {
            return Ok(real);
        }
        let steps = activation_steps(tensor)?;
        let [scale, zero] = self.steps(tensor.kind, &steps);
        let stored =
            self.node(&format!("{name}_quantize"), "QuantizeLinear", &[&real, &scale, &zero], vec![]);
        Ok(self.node(&format!("{name}_dequantize"), "DequantizeLinear", &[&stored, &scale, &zero], vec![]))
    }

    /// The floats that grey levels from 0 to 255 stand for.
    pub(super) fn real_levels(&mut self, levels: &str, steps: &Steps) -> String {
        let [scale, zero] = self.steps(Kind::Uint8, steps);
        self.node(&format!("{levels}_dequantise"), "DequantizeLinear", &[levels, &scale, &zero], vec![])
    }

    /// The floats of a constant input of an operator, with the scales of the file.
    pub(super) fn constant(
        &mut self,
        operator: &Operator<'_>,
        at: usize,
        name: &str,
        order: Order,
    ) -> Result<String, TfliteFault> {
        let network = self.network;
        let tensor =
            operator.inputs.get(at).and_then(|&index| network.tensor(index)).ok_or(TfliteFault::Input(at))?;
        let data = tensor.data.ok_or(TfliteFault::Computed(at))?;
        let (dims, places, axis) = ordered(tensor, order)?;
        let bytes = reordered(data, tensor.kind.size(), &places);
        let stored = self.unused("constant");
        self.constants.push(match tensor.kind {
            Kind::Float => onnx::of_float_bytes(&stored, &dims, bytes),
            Kind::Int8 => onnx::of_bytes(&stored, &dims, true, bytes),
            Kind::Uint8 => onnx::of_bytes(&stored, &dims, false, bytes),
            Kind::Int32 => onnx::of_i32_bytes(&stored, &dims, bytes),
            kind => return Err(TfliteFault::Kind { name: tensor.name.into(), found: kind.name() }),
        });
        if tensor.kind == Kind::Float {
            return Ok(stored);
        }
        let steps = tensor.steps.clone().ok_or_else(|| TfliteFault::NoScale { name: tensor.name.into() })?;
        let [scale, zero] = self.steps(tensor.kind, &steps);
        let axis = if steps.scales.len() == 1 { vec![] } else { vec![onnx::integer("axis", axis)] };
        let inputs: &[&str] =
            if tensor.kind == Kind::Int32 { &[&stored, &scale] } else { &[&stored, &scale, &zero] };
        Ok(self.node(&format!("{name}_{at}"), "DequantizeLinear", inputs, axis))
    }

    /// The integers of a constant input, if it is one.
    pub(super) fn whole(&self, operator: &Operator<'_>, at: usize) -> Option<Vec<i64>> {
        let tensor = self.network.tensor(*operator.inputs.get(at)?)?;
        let data = tensor.data?;
        Some(match tensor.kind {
            Kind::Int32 => data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect(),
            Kind::Int64 => data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
            _ => return None,
        })
    }
}

/// The one scale and zero point of a result.
pub(super) fn activation_steps(tensor: &Tensor<'_>) -> Result<Steps, TfliteFault> {
    let name = || tensor.name.to_owned();
    if !matches!(tensor.kind, Kind::Int8 | Kind::Uint8) {
        return Err(TfliteFault::Kind { name: name(), found: tensor.kind.name() });
    }
    let steps = tensor.steps.clone().ok_or_else(|| TfliteFault::NoScale { name: name() })?;
    if steps.scales.len() > 1 {
        return Err(TfliteFault::ActivationPerChannel { name: name(), scales: steps.scales.len() });
    }
    Ok(steps)
}

/// Dimensions of a constant in ONNX's order, where each of its values comes from, and the axis of its scales.
fn ordered(tensor: &Tensor<'_>, order: Order) -> Result<(Vec<usize>, Vec<usize>, i64), TfliteFault> {
    let count: usize = tensor.dims.iter().product();
    let refuse = || TfliteFault::Dims { name: tensor.name.into(), dims: tensor.dims.clone() };
    let axis_of = |from: &[usize]| {
        let axis = tensor.steps.as_ref().map_or(0, |steps| steps.axis);
        from.iter().position(|&own| own == axis).unwrap_or(0) as i64
    };
    Ok(match (order, tensor.dims.as_slice()) {
        (Order::Same, dims) => (dims.to_vec(), (0..count).collect(), axis_of(&[0, 1, 2, 3])),
        (Order::Convolution, &[outputs, height, width, inputs]) => {
            let at = |index: usize| {
                let (output, input, tap) = (
                    index / (inputs * height * width),
                    index / (height * width) % inputs,
                    index % (height * width),
                );
                (output * height * width + tap) * inputs + input
            };
            (vec![outputs, inputs, height, width], (0..count).map(at).collect(), axis_of(&[0, 3, 1, 2]))
        }
        (Order::Depthwise, &[1, height, width, channels]) => {
            let at = |index: usize| index % (height * width) * channels + index / (height * width);
            (vec![channels, 1, height, width], (0..count).map(at).collect(), axis_of(&[3, 0, 1, 2]))
        }
        (Order::Flat([height, width, channels]), &[outputs, features])
            if height * width * channels == features =>
        {
            let area = height * width;
            let at = |index: usize| {
                let (output, feature) = (index / features, index % features);
                output * features + feature % area * channels + feature / area
            };
            (vec![outputs, features], (0..count).map(at).collect(), axis_of(&[0, 1]))
        }
        (Order::Channels, dims) if count == 1 || dims.last() == Some(&count) => {
            let dims = if count == 1 { vec![] } else { vec![count, 1, 1] };
            (dims, (0..count).collect(), 0)
        }
        _ => return Err(refuse()),
    })
}

/// Values of so many bytes each, taken from these places.
fn reordered(data: &[u8], size: usize, places: &[usize]) -> Vec<u8> {
    let value = |&place: &usize| data.get(place * size..(place + 1) * size).unwrap_or_default();
    places.iter().flat_map(value).copied().collect()
}
