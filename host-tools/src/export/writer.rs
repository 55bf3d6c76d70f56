//! An ONNX graph while it is written, layer by layer.

use std::collections::{HashMap, HashSet};

use resight_runtime::tract::{OutletId, Tensor, TypedNode};
use resight_runtime::{Model, Quantisation};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto,
};

use crate::onnx;

use super::error::{ExportError, NumberFault};
use super::format::Format;

/// Operators as they are since ONNX 1.8: the first with scales per channel.
const OPERATOR_SET: i64 = 13;
/// The version of the file format that belongs to it.
const IR_VERSION: i64 = 8;
/// Name of the network's input.
const INPUT: &str = "input";
/// Name of its output.
const LOGITS: &str = "logits";

/// A result of the network as ONNX has it.
#[derive(Debug, Clone)]
pub(super) struct Exported {
    /// The tensor of real numbers, `[batch, channels, height, width]`.
    pub(super) tensor: String,
    /// What int8 steps are worth; none for averages, which are of 16 bits, and for logits.
    pub(super) quantisation: Option<Quantisation>,
    /// Height, width, channels.
    pub(super) shape: [usize; 3],
    /// Whether it is the image itself, and the tensor the normalised one.
    pub(super) is_image: bool,
}

/// An ONNX graph while it is written.
pub(super) struct Writer<'a> {
    pub(super) model: &'a Model,
    pub(super) format: Format,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    results: HashMap<OutletId, Exported>,
    /// Those of nodes, which onnxruntime wants to be different.
    names: HashSet<String>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(model: &'a Model, format: Format) -> Self {
        Self {
            model,
            format,
            nodes: vec![],
            constants: vec![],
            results: HashMap::new(),
            names: HashSet::new(),
        }
    }

    /// The network's input.
    pub(super) fn image(node: &TypedNode) -> Exported {
        Exported {
            tensor: INPUT.into(),
            // A grey level less 128.
            quantisation: Some(Quantisation { scale: 1.0, zero_point: -128 }),
            shape: shape_of(node),
            is_image: true,
        }
    }

    /// What a node has become, for those that read it.
    pub(super) fn add(&mut self, node: &TypedNode, exported: Exported) {
        self.results.insert(OutletId::new(node.id, 0), exported);
    }

    pub(super) fn finish(mut self) -> ModelProto {
        let classes = self.model.labels().len();
        let outlet = self.model.graph().outputs.first().and_then(|outlet| self.results.get(outlet)).cloned();
        if let Some(last) = outlet {
            let flat =
                self.node("Flatten", "logits_flatten", &[&last.tensor], vec![onnx::integer("axis", 1)]);
            if let Some(node) = self.nodes.last_mut().filter(|node| node.output[0] == flat) {
                node.output[0] = LOGITS.into();
            }
        }
        let preprocessing = self.model.preprocessing();
        let [height, width] = preprocessing.crop.map(|side| side as usize);
        let channels = preprocessing.channels.count();
        let graph = GraphProto {
            name: self.model.name().into(),
            node: self.nodes,
            initializer: self.constants,
            input: vec![onnx::value(INPUT, &[channels, height, width])],
            output: vec![onnx::value(LOGITS, &[classes])],
            ..GraphProto::default()
        };
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "resight".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
            graph: Some(graph),
            metadata_props: vec![entry("labels", self.model.labels().to_text())],
            ..ModelProto::default()
        }
    }

    /// A layer's input.
    pub(super) fn input(&self, node: &TypedNode, at: usize) -> Result<Exported, ExportError> {
        let found = node.inputs.get(at).and_then(|outlet| self.results.get(outlet));
        found.cloned().ok_or_else(|| self.fault(node, NumberFault::NoScale(at)))
    }

    /// The layer that gives an input of another one.
    pub(super) fn maker(&self, node: &TypedNode, at: usize) -> Option<&'a TypedNode> {
        let outlet = node.inputs.get(at)?;
        self.model.graph().nodes.get(outlet.node)
    }

    pub(super) fn fault(&self, node: &TypedNode, cause: NumberFault) -> ExportError {
        ExportError::Numbers { file: self.model.file().into(), layer: node.name.clone(), cause }
    }

    /// The numbers of a tensor.
    pub(super) fn numbers<T: resight_runtime::tract::Datum + Copy>(
        &self,
        node: &TypedNode,
        tensor: &Tensor,
    ) -> Result<Vec<T>, ExportError> {
        let read = tensor.try_as_plain_ram().and_then(|plain| plain.as_slice::<T>().map(<[T]>::to_vec));
        read.map_err(|error| self.fault(node, NumberFault::Tensor(format!("{error:#}"))))
    }

    /// Adds a node and gives the name of its output.
    pub(super) fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let mut name = name.to_owned();
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        let output = format!("{name}/output");
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name,
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        output
    }

    /// Adds a constant and gives its name.
    pub(super) fn constant(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name.clone();
        self.constants.push(tensor);
        name
    }

    /// A number as a constant.
    pub(super) fn number(&mut self, name: &str, value: f32) -> String {
        self.constant(onnx::of_f32(name, &[], &[value]))
    }

    /// Rounds a tensor of real numbers to int8 and makes real numbers of it; in f32 it ends where int8 does.
    pub(super) fn rounded(&mut self, name: &str, tensor: &str, quantisation: Quantisation) -> String {
        let Quantisation { scale, zero_point } = quantisation;
        if self.format == Format::F32 {
            let ends = [-128 - zero_point, 127 - zero_point].map(|steps| steps as f32 * scale);
            let low = self.number(&format!("{name}/low"), ends[0]);
            let high = self.number(&format!("{name}/high"), ends[1]);
            return self.node("Clip", &format!("{name}_clip"), &[tensor, &low, &high], vec![]);
        }
        let [scale, zero] = self.steps(name, quantisation);
        let stored =
            self.node("QuantizeLinear", &format!("{name}_quantize"), &[tensor, &scale, &zero], vec![]);
        self.node("DequantizeLinear", &format!("{name}_dequantize"), &[&stored, &scale, &zero], vec![])
    }

    /// The tensor before it was made to end where int8 does, if the last node did that: logits in f32 have no
    /// ends.
    pub(super) fn without_ends(&mut self, tensor: String) -> String {
        let is_end = |node: &NodeProto| node.op_type == "Clip" && node.output.first() == Some(&tensor);
        match self.nodes.pop_if(|node| is_end(node)) {
            Some(node) => {
                self.constants.retain(|constant| !node.input[1..].contains(&constant.name));
                node.input.into_iter().next().unwrap_or(tensor)
            }
            None => tensor,
        }
    }

    /// Constants for a scale and a zero point.
    pub(super) fn steps(&mut self, name: &str, quantisation: Quantisation) -> [String; 2] {
        let scale = self.number(&format!("{name}/scale"), quantisation.scale);
        // A zero point of a model is one of int8.
        let zero = quantisation.zero_point.clamp(-128, 127) as i8;
        [scale, self.constant(onnx::of_i8(&format!("{name}/zero_point"), &[], &[zero]))]
    }

    /// A layer's input as numbers with one scale: of the image its grey levels.
    pub(super) fn int8(&mut self, node: &TypedNode, at: usize) -> Result<Exported, ExportError> {
        let input = self.input(node, at)?;
        if !input.is_image {
            return Ok(input);
        }
        let tensor = self.grey_levels(&format!("{}_{at}", node.name), None);
        Ok(Exported { tensor, is_image: false, ..input })
    }

    /// The integers of a tensor as numbers of another scale.
    pub(super) fn read_as(&mut self, name: &str, input: &Exported, scale: f32) -> String {
        let Some(quantisation) =
            input.quantisation.filter(|own| self.format == Format::Qdq && own.scale != scale)
        else {
            return input.tensor.clone();
        };
        let [own, zero] = self.steps(&format!("{name}/stored"), quantisation);
        let read = self.number(&format!("{name}/read_scale"), scale);
        let stored =
            self.node("QuantizeLinear", &format!("{name}_stored"), &[&input.tensor, &own, &zero], vec![]);
        self.node("DequantizeLinear", &format!("{name}_read"), &[&stored, &read, &zero], vec![])
    }

    /// The image as grey levels, which an integer each stands for exactly, from the normalised one. With
    /// `zeros` they are less one of these levels (- 128) in each channel, so that zeros round it are that.
    pub(super) fn grey_levels(&mut self, name: &str, zeros: Option<&[i8]>) -> String {
        let preprocessing = self.model.preprocessing();
        let channels = preprocessing.channels.count();
        let deviations: Vec<f32> =
            preprocessing.standard_deviation[..channels].iter().map(|deviation| 255.0 * deviation).collect();
        let means: Vec<f32> = preprocessing.mean[..channels].iter().map(|mean| 255.0 * mean).collect();
        let dims = [channels, 1, 1];
        let deviation = self.constant(onnx::of_f32(&format!("{name}/deviation"), &dims, &deviations));
        let mean = self.constant(onnx::of_f32(&format!("{name}/mean"), &dims, &means));
        let scaled = self.node("Mul", &format!("{name}_scale"), &[INPUT, &deviation], vec![]);
        let levels = self.node("Add", &format!("{name}_levels"), &[&scaled, &mean], vec![]);
        let image = format!("{name}_image");
        let whole = Quantisation { scale: 1.0, zero_point: -128 };
        let Some(zeros) = zeros else { return self.rounded(&image, &levels, whole) };
        if self.format == Format::F32 {
            let rounded = self.rounded(&image, &levels, whole);
            let less: Vec<f32> = zeros.iter().map(|&zero| -128.0 - f32::from(zero)).collect();
            let less = self.constant(onnx::of_f32(&format!("{name}/less"), &dims, &less));
            return self.node("Add", &format!("{name}_less"), &[&rounded, &less], vec![]);
        }
        let [scale, zero] = self.steps(&image, whole);
        let inputs = [levels.as_str(), &scale, &zero];
        let stored = self.node("QuantizeLinear", &format!("{image}_quantize"), &inputs, vec![]);
        let ones = self.constant(onnx::of_f32(&format!("{image}/scales"), &[channels], &vec![1.0; channels]));
        let zeros = self.constant(onnx::of_i8(&format!("{image}/zero_points"), &[channels], zeros));
        let axis = vec![onnx::integer("axis", 1)];
        self.node("DequantizeLinear", &format!("{image}_dequantize"), &[&stored, &ones, &zeros], axis)
    }
}

/// The attributes of a window.
pub(super) fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 4]) -> Vec<AttributeProto> {
    vec![
        onnx::integers("kernel_shape", &kernel),
        onnx::integers("strides", &stride),
        onnx::integers("pads", &padding),
    ]
}

/// Height, width and channels of a node's output; a vector has one position.
pub(super) fn shape_of(node: &TypedNode) -> [usize; 3] {
    let fact = node.outputs.first().and_then(|output| output.fact.shape.as_concrete().map(<[usize]>::to_vec));
    match fact.as_deref() {
        Some(&[_, height, width, channels]) => [height, width, channels],
        Some(&[_, features]) => [1, 1, features],
        _ => [0; 3],
    }
}
