//! How much of a network is computed in integers.

use resight::coverage::int8_mac_coverage_percent;
use resight_runtime::layers::Linear;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

fn tensor<T: Datum + Copy>(shape: &[usize], data: &[T]) -> Arc<Tensor> {
    Tensor::from_shape(shape, data).unwrap().into_arc_tensor()
}

#[test]
fn a_float_layer_lowers_the_int8_coverage() {
    let mut model = TypedModel::default();
    assert_eq!(int8_mac_coverage_percent(&model).unwrap(), 0.0);
    let features = model.add_source("features", DatumType::I16.fact([1, 8])).unwrap();
    let linear = Linear {
        weights: tensor(&[5, 8], &[1i8; 40]),
        bias: tensor(&[5], &[0i32; 5]),
        scale: tensor(&[5], &[1f32; 5]),
        input_limit: 2048,
    };
    let logits = model.wire_node("logits", linear, &[features]).unwrap()[0];
    model.select_output_outlets(&[logits]).unwrap();
    assert_eq!(int8_mac_coverage_percent(&model).unwrap(), 100.0);
    let weights = model.add_const("float_weights", tensor(&[5, 2], &[0.5f32; 10])).unwrap();
    let op = EinSum::new("ab,bc->ac".parse().unwrap(), DatumType::F32);
    let float = model.wire_node("float", op, &[logits, weights]).unwrap()[0];
    model.select_output_outlets(&[float]).unwrap();
    assert_eq!(int8_mac_coverage_percent(&model).unwrap(), 80.0);
}
