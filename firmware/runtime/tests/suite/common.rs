//! A small network, run in both ways.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::sync::Arc;

use resight_fixtures::Random;
use resight_imaging::Preprocessing;
use resight_kernels::Sequential;
use resight_model_file::{Golden, Labels, Provenance, Task};
use resight_runtime::layers::{Convolution, GlobalAverage, Linear, MaxPool};
use resight_runtime::{Isa, Layers, ModelParts, Program, Quantisation, Target, plan};
use tract_nnef::internal::*;

pub fn tensor<T: Datum + Copy>(shape: &[usize], data: &[T]) -> Arc<Tensor> {
    Tensor::from_shape(shape, data).unwrap().into_arc_tensor()
}

pub fn convolution(
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
pub fn network() -> TypedModel {
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

/// Noise of the network's input size, 9x7x3.
pub fn input() -> Vec<i8> {
    Random::new(7).weights(9 * 7 * 3)
}

/// The outputs' bytes by tract's plan with kernels for a target.
pub fn by_plan(graph: &TypedModel, target: Target) -> Vec<Vec<u8>> {
    let input = Tensor::from_shape(&[1, 9, 7, 3], &input()).unwrap();
    let outputs = plan(graph.clone(), target).unwrap().run(tvec!(input.into_tvalue())).unwrap();
    outputs.iter().map(|output| output.try_as_plain_ram().unwrap().as_bytes().to_vec()).collect()
}

/// The outputs' bytes by a compiled program.
pub fn by_program(graph: &TypedModel, layers: &Layers, target: Target) -> Vec<Vec<u8>> {
    let mut program = Program::compile(graph, layers, &target).unwrap();
    let outputs = program.run(&Sequential, &input()).unwrap();
    outputs.iter().map(|output| output.bytes.to_vec()).collect()
}

/// Checks that plan and program give the same bytes with every instruction set of this CPU, and
/// returns them.
#[allow(clippy::print_stdout, reason = "tests say what they skip")]
pub fn both_ways(graph: &TypedModel, layers: &Layers) -> Vec<Vec<u8>> {
    let expected = by_program(graph, layers, Target::reference());
    for output in &expected {
        assert!(output.windows(2).any(|pair| pair[0] != pair[1]), "a constant result proves nothing");
    }
    for isa in Isa::ALL {
        if !isa.is_available() {
            println!("skipped: {isa} (not available on this CPU)");
            continue;
        }
        let target = Target::reference().with_isa(isa);
        assert_eq!(by_program(graph, layers, target), expected, "{isa}");
        assert_eq!(by_plan(graph, target), expected, "{isa}");
    }
    expected
}

/// The bytes of a model file.
pub fn file(graph: &TypedModel, layers: &Layers, task: Task, labels: &str, golden: &[Golden]) -> Vec<u8> {
    let labels =
        if labels.is_empty() { Labels::none() } else { Labels::parse("", labels.as_bytes()).unwrap() };
    let parts = ModelParts {
        name: "small",
        layers,
        graph,
        task,
        labels: &labels,
        preprocessing: &Preprocessing { resize_shorter: 9, crop: [9, 7], ..Preprocessing::default() },
        provenance: &Provenance {
            source: "small.onnx".into(),
            source_sha256: "0".repeat(64),
            calibration: None,
            tool: "test".into(),
        },
        report: &serde_json::Value::Null,
        golden,
    };
    parts.to_bytes().unwrap()
}
