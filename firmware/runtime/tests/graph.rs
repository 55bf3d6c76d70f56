//! The graph as tract runs it, as NNEF holds it and as a program runs it: three ways, one result.

use std::sync::Arc;

use resight_fixtures::Random;
use resight_kernels::Sequential;
use resight_runtime::operators::{Convolution, GlobalAverage, Linear, MaxPool, Quantisation};
use resight_runtime::{Isa, Program, nnef};
use tract_nnef::internal::*;

fn tensor<T: Datum + Copy>(shape: &[usize], data: &[T]) -> Arc<Tensor> {
    Tensor::from_shape(shape, data).unwrap().into_arc_tensor()
}

fn convolution(
    random: &mut Random,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    residual: bool,
) -> Convolution {
    let depth = kernel * kernel * inputs;
    let bias: Vec<i32> = (0..outputs).map(|_| random.below(5000) as i32 - 2500).collect();
    // A multiplier that brings sums of `depth` random products into the range of int8.
    let real = 0.5 / (depth as f64).sqrt() / 70.0;
    let multiplier: Vec<i32> =
        (0..outputs).map(|c| (real * (1.0 + c as f64 / 10.0) * 256.0 * 2147483648.0) as i32).collect();
    Convolution {
        weights: tensor(&[outputs, kernel, kernel, inputs], &random.weights(depth * outputs)),
        bias: tensor(&[outputs], &bias),
        multiplier: tensor(&[outputs], &multiplier),
        padding_value: tensor(&[inputs], &vec![-3i8; inputs]),
        shift: 0,
        residual_multiplier: residual.then_some(200),
        stride: [1, 1],
        padding: [kernel / 2; 4],
        dilation: [1, 1],
        groups: 1,
        output: Quantisation { scale: 0.12345679, zero_point: -128 },
    }
}

/// image 9x7x3 -> 3x3 conv -> 3x3/2 pool -> 1x1 conv -> 3x3 conv + shortcut -> average -> linear.
fn network() -> TypedModel {
    let mut random = Random::new(42);
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
    let wire = |model: &mut TypedModel, name: &str, op: Box<dyn TypedOp>, inputs: &[OutletId]| {
        model.wire_node(name, op, inputs).unwrap()[0]
    };
    let stem = convolution(&mut random, 3, 8, 3, false);
    let stem = wire(&mut model, "layer1.0/stem", Box::new(stem), &[image]);
    let pool = MaxPool { kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] };
    let pool = wire(&mut model, "pool", Box::new(pool), &[stem]);
    let first = convolution(&mut random, 8, 12, 1, false);
    let first = wire(&mut model, "layer1.1.conv1", Box::new(first), &[pool]);
    let second = convolution(&mut random, 12, 8, 3, true);
    let second = wire(&mut model, "layer1.1.conv2", Box::new(second), &[first, pool]);
    let average = wire(&mut model, "average", Box::new(GlobalAverage { fraction_bits: 4 }), &[second]);
    let linear = Linear {
        weights: tensor(&[5, 8], &random.weights(40)),
        bias: tensor(&[5], &[100, -100, 5, 0, 70000]),
        scale: tensor(&[5], &[0.001f32, 0.002, 0.0031, 0.1, 0.5]),
        input_limit: 2048,
    };
    let linear = wire(&mut model, "logits", Box::new(linear), &[average]);
    model.select_output_outlets(&[linear]).unwrap();
    model
}

fn input() -> Vec<i8> {
    Random::new(7).weights(9 * 7 * 3)
}

fn by_plan(model: TypedModel) -> Vec<f32> {
    let input = Tensor::from_shape(&[1, 9, 7, 3], &input()).unwrap();
    let output = model.into_runnable().unwrap().run(tvec!(input.into_tvalue())).unwrap();
    output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

fn by_program(model: &TypedModel, isa: Isa) -> Vec<f32> {
    Program::compile(model, isa, 1).unwrap().run(&Sequential, &input()).unwrap().to_vec()
}

fn through_nnef(model: &TypedModel) -> TypedModel {
    let bytes = nnef::framework().write_to_tar_with_config(model, vec![], false, true).unwrap();
    nnef::framework().model_for_read(&mut &bytes[..]).unwrap()
}

#[test]
fn plan_program_and_nnef_give_the_same_bits() {
    let model = network();
    let expected = by_program(&model, Isa::Generic);
    assert!(
        expected.windows(2).any(|pair| pair[0] != pair[1]),
        "a constant result proves nothing: {expected:?}"
    );
    assert_eq!(by_plan(model.clone()), expected);
    let loaded = through_nnef(&model);
    for isa in Isa::ALL {
        if isa.is_available() {
            assert_eq!(by_program(&loaded, isa), expected, "{isa}");
        } else {
            println!("skipped: {isa} (not available on this CPU)");
        }
    }
    assert_eq!(by_plan(loaded), expected);
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
    let write = || nnef::framework().write_to_tar_with_config(&network(), vec![], false, true).unwrap();
    assert_eq!(write(), write());
}

#[test]
fn running_again_gives_the_same_result() {
    let mut program = Program::compile(&network(), Isa::Generic, 1).unwrap();
    let first = program.run(&Sequential, &input()).unwrap().to_vec();
    program.run(&Sequential, &[127; 9 * 7 * 3]).unwrap();
    assert_eq!(program.run(&Sequential, &input()).unwrap(), first);
}

#[test]
fn an_input_of_another_size_is_an_error() {
    let mut program = Program::compile(&network(), Isa::Generic, 1).unwrap();
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
    let error = Program::compile(&model, Isa::Generic, 1).unwrap_err().to_string();
    assert!(error.contains("`probabilities`") && error.contains("Softmax"), "{error}");
}

#[test]
fn an_overflowing_accumulator_is_refused_with_its_node() {
    let mut model = network();
    let node = model.node_by_name("layer1.1.conv1").unwrap().id;
    let op = model.node_mut(node).op_as_mut::<Convolution>().unwrap();
    op.bias = tensor(&[12], &[i32::MAX; 12]);
    let error = Program::compile(&model, Isa::Generic, 1).unwrap_err().to_string();
    assert!(error.contains("layer1.1.conv1") && error.contains("accumulator"), "{error}");
}

#[test]
fn memory_is_shared_between_tensors_that_do_not_live_together() {
    let program = Program::compile(&network(), Isa::Generic, 1).unwrap();
    let separate: usize = program.steps().iter().map(|step| step.output.iter().product::<usize>()).sum();
    assert!(program.working_bytes() < separate + 9 * 7 * 3 + 5 * 64, "{}", program.working_bytes());
}
