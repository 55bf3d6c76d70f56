//! The graph as tract runs it, as NNEF holds it and as a program runs it: three ways, one result.

use resight_kernels::Sequential;
use resight_runtime::layers::{Convolution, MaxPool};
use resight_runtime::{Classes, Layers, Program, RuntimeError, Target};
use tract_nnef::internal::*;

use crate::common::{both_ways, input, network, tensor};

fn through_nnef(model: &TypedModel) -> TypedModel {
    let bytes = Layers::default().framework().write_to_tar_with_config(model, vec![], false, true).unwrap();
    Layers::default().framework().model_for_read(&mut &bytes[..]).unwrap()
}

fn compile(model: &TypedModel) -> Result<Program, RuntimeError> {
    Program::compile(model, &Layers::default(), &Target::reference())
}

#[test]
fn plan_program_and_nnef_give_the_same_bits() {
    let model = network();
    let expected = both_ways(&model, &Layers::default());
    assert_eq!(both_ways(&through_nnef(&model), &Layers::default()), expected);
}

#[test]
fn nnef_keeps_names_and_scales_exactly() {
    let loaded = through_nnef(&network());
    let node = loaded.node_by_name("layer1.1.conv2").unwrap();
    let op = node.op_as::<Convolution>().unwrap();
    assert_eq!(op.output.scale.to_bits(), 0.12345679f32.to_bits());
    assert_eq!(op.residual_multiplier, Some(200));
}

#[test]
fn writing_twice_gives_the_same_bytes() {
    let write =
        || Layers::default().framework().write_to_tar_with_config(&network(), vec![], false, true).unwrap();
    assert_eq!(write(), write());
}

fn logits(program: &mut Program, input: &[i8]) -> Vec<f32> {
    Classes::logits(program.run(&Sequential, input).unwrap()).unwrap().to_vec()
}

#[test]
fn running_again_gives_the_same_result() {
    let mut program = compile(&network()).unwrap();
    let first = logits(&mut program, &input());
    assert_ne!(logits(&mut program, &[127; 9 * 7 * 3]), first);
    assert_eq!(logits(&mut program, &input()), first);
}

#[test]
fn an_input_of_another_size_is_an_error() {
    let mut program = compile(&network()).unwrap();
    let error = program.run(&Sequential, &[0; 5]).unwrap_err().to_string();
    assert!(error.contains("9 x 7 x 3") && error.contains("found 5"), "{error}");
}

#[test]
fn a_float_operator_is_named() {
    let mut model = network();
    let output = model.output_outlets().unwrap()[0];
    let op = tract_nnef::tract_core::ops::nn::Softmax { axes: tvec!(1), ..Default::default() };
    let softmax = model.wire_node("probabilities", op, &[output]).unwrap()[0];
    model.select_output_outlets(&[softmax]).unwrap();
    let error = compile(&model).unwrap_err().to_string();
    assert!(error.contains("`probabilities`") && error.contains("Softmax"), "{error}");
}

#[test]
fn an_overflowing_accumulator_is_refused_with_its_node() {
    let mut model = network();
    let node = model.node_by_name("layer1.1.conv1").unwrap().id;
    let op = model.node_mut(node).op_as_mut::<Convolution>().unwrap();
    op.bias = tensor(&[12], &[i32::MAX; 12]);
    let error = compile(&model).unwrap_err().to_string();
    assert!(error.contains("layer1.1.conv1") && error.contains("accumulator"), "{error}");
}

#[test]
fn memory_is_shared_between_tensors_that_do_not_live_together() {
    let program = compile(&network()).unwrap();
    let separate: usize = program.steps().iter().map(|step| step.output.iter().product::<usize>()).sum();
    assert!(program.working_bytes() < separate + 9 * 7 * 3 + 5 * 64, "{}", program.working_bytes());
}

/// Each output of such a pool looks at the whole image: 2^26 times 2^24 comparisons.
#[test]
fn windows_that_no_board_would_finish_are_refused_before_memory_is_taken() {
    let pool = |side: usize, window: usize| {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, side, side, 4])).unwrap();
        let half = window / 2;
        let pool = MaxPool { kernel: [window; 2], stride: [1, 1], padding: [half, half, half, half] };
        let pool = model.wire_node("pool", pool, &[image]).unwrap();
        model.select_output_outlets(&pool).unwrap();
        compile(&model).map(|program| program.working_bytes())
    };
    let error = pool(4096, 4096).unwrap_err().to_string();
    assert!(error.contains("multiplications and comparisons; a network of up to 2199023255552"), "{error}");
    // What a window covers outside of the image costs nothing.
    pool(16, 4095).unwrap();
}
