//! A border of zeros that no convolution takes in: before `Concat`, `Add` and whatever else follows a `Pad`.

use tract_onnx::pb::NodeProto;

use super::importer::Importer;
use super::limits::LimitFault;
use super::operation::Kind;
use super::value::Data;

impl Importer<'_> {
    /// The input of a node with the zeros round it made: a convolution that changes nothing, with padding.
    pub(super) fn bordered(
        &mut self,
        node: &NodeProto,
        position: usize,
        data: &Data,
    ) -> Result<Data, LimitFault> {
        let [channels, height, width] = data.shape;
        let [top, left, bottom, right] = data.padding;
        self.charge_made(channels)?;
        let kind = Kind::Convolution {
            weights: vec![1.0; channels],
            bias: vec![0.0; channels],
            kernel: [1, 1],
            stride: [1, 1],
            padding: data.padding,
            dilation: [1, 1],
            groups: channels,
        };
        let shape = [channels, height + top + bottom, width + left + right];
        let tensor = node.input.get(position).cloned().unwrap_or_default();
        let operation = self.step(node, kind, vec![data.operation], shape, &tensor)?;
        Ok(Data { operation, shape, padding: [0; 4], layout: data.layout.clone() })
    }
}
