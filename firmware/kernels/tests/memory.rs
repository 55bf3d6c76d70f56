//! What kernels read and write: every buffer between canaries, at every alignment. Small enough
//! for valgrind, which also sees the kernels' own buffers (packed weights, bias, panels).
#![allow(missing_docs)]

mod common;

use common::{Case, Embedded, Random, Threads, Values, available, report_skipped, square};
use resight_kernels::{
    Convolution, ConvolutionParameters, ConvolutionShape, GlobalAverage, Isa, Linear, LinearParameters,
    MaxPool, Parallel, PoolShape, Sequential,
};

/// One of each path: whole tiles, ragged rows and columns, gathered rows, padding, groups,
/// dilation, stride, the edges of Winograd's tiles.
fn shapes() -> Vec<ConvolutionShape> {
    let mut shapes = vec![
        square(1, 1, 1, 1, 1, 0),
        square(5, 32, 32, 1, 1, 0),
        square(4, 80, 48, 1, 1, 0),
        square(5, 17, 19, 1, 1, 0),
        square(6, 15, 33, 1, 2, 0),
        square(9, 16, 16, 3, 1, 1),
        square(7, 32, 80, 3, 1, 1),
        square(6, 24, 20, 3, 2, 1),
        square(12, 3, 30, 7, 2, 3),
        square(3, 1, 1, 5, 1, 4),
    ];
    for groups in [2, 5, 30] {
        let mut grouped = square(6, 30, 60, 3, 1, 1);
        grouped.groups = groups;
        shapes.push(grouped);
    }
    for (channels, kernel) in [(32, 3), (35, 3), (17, 1), (16, 5), (33, 2), (7, 3), (20, 9)] {
        let mut depthwise = square(5, channels, channels, kernel, 1, kernel / 2);
        depthwise.groups = channels;
        shapes.push(depthwise);
    }
    let mut dilated = square(9, 16, 24, 3, 1, 2);
    dilated.dilation = [2, 3];
    shapes.push(dilated);
    shapes
}

/// Runs with every buffer of the call, the parameters included, between canaries.
fn run(isa: Isa, case: &Case, parallel: &dyn Parallel, offset: usize, canary: u8) -> Vec<i8> {
    let signed = canary as i8;
    let weights = Embedded::new(&case.weights, offset, signed);
    let bias = Embedded::new(&case.bias, offset, i32::from(canary) << 20);
    let multiplier = Embedded::new(&case.multiplier, offset, i32::from(signed) << 20);
    let padding_value = Embedded::new(&case.padding_value, offset + 1, signed);
    let parameters = ConvolutionParameters {
        weights: &weights,
        bias: &bias,
        multiplier: &multiplier,
        padding_value: &padding_value,
        ..case.parameters()
    };
    let convolution = Convolution::new(isa, &parameters).unwrap();
    // Different alignments within a call.
    let input = Embedded::new(&case.input, offset, signed);
    let residual = case.residual.as_ref().map(|residual| Embedded::new(residual, offset + 3, signed));
    let mut output = Embedded::new(&vec![!signed; case.shape.output_len()], offset + 5, signed);
    let scratch = vec![canary; convolution.scratch_len(parallel.threads())];
    let mut scratch = Embedded::new(&scratch, offset + 7, !canary);
    convolution.run(parallel, &input, residual.as_deref(), output.get_mut(), scratch.get_mut()).unwrap();
    output.to_vec()
}

#[test]
fn no_convolution_reads_or_writes_outside_of_its_buffers() {
    report_skipped();
    for (index, shape) in shapes().iter().enumerate() {
        for residual in [false, true] {
            let case = Case::new(shape, Values::Uniform, residual, index as u64);
            let expected = case.plain();
            for isa in available() {
                for canary in [0x00, 0x7f, 0x80] {
                    let found = run(isa, &case, &Sequential, index + 1, canary);
                    common::compare(isa, &case, &expected, &found, index as u64);
                }
            }
        }
    }
}

#[test]
fn every_alignment_gives_the_same_bytes() {
    report_skipped();
    for shape in [square(5, 32, 32, 3, 1, 1), square(5, 19, 35, 1, 1, 0)] {
        let case = Case::new(&shape, Values::Uniform, true, 77);
        let expected = case.plain();
        for isa in available() {
            for offset in 0..64 {
                let found = run(isa, &case, &Sequential, offset, 0x5c);
                common::compare(isa, &case, &expected, &found, 77);
            }
        }
    }
}

#[test]
fn threads_stay_within_their_parts() {
    report_skipped();
    for shape in [square(9, 32, 48, 3, 1, 1), square(7, 20, 67, 1, 1, 0)] {
        let case = Case::new(&shape, Values::Uniform, true, 78);
        let expected = case.plain();
        for isa in available() {
            for threads in 1..=8 {
                let found = run(isa, &case, &Threads { threads, twice: false }, threads, 0xa3);
                common::compare(isa, &case, &expected, &found, 78);
            }
        }
    }
}

/// What `layer` gives with each canary and alignment, which must not matter.
fn demand_equal<R: PartialEq>(what: &str, layer: impl Fn(usize, i8) -> R) {
    let expected = layer(0, 0);
    for offset in 0..17 {
        for canary in [0, 127, -128] {
            assert!(expected == layer(offset, canary), "{what}: offset {offset}, canary {canary}");
        }
    }
}

#[test]
fn no_simple_layer_reads_or_writes_outside_of_its_buffers() {
    report_skipped();
    for isa in available() {
        for channels in [1, 7, 16, 33, 64, 129] {
            let data = Random::new(channels as u64).activations(6 * 5 * channels);
            let shape =
                PoolShape { input: [6, 5, channels], kernel: [3; 2], stride: [2; 2], padding: [1; 4] };
            let pool = MaxPool::new(isa, shape).unwrap();
            demand_equal(&format!("{isa} max pool of {channels}"), |offset, canary| {
                let input = Embedded::new(&data, offset, canary);
                let mut output = Embedded::new(&vec![85; 9 * channels], offset + 3, canary);
                pool.run(&Sequential, &input, output.get_mut()).unwrap();
                output.to_vec()
            });
            let average = GlobalAverage::new(isa, [6, 5, channels], 4).unwrap();
            demand_equal(&format!("{isa} average of {channels}"), |offset, canary| {
                let input = Embedded::new(&data, offset, canary);
                let mut output = Embedded::new(&vec![85; channels], offset, i16::from(canary));
                average.run(&Sequential, &input, output.get_mut()).unwrap();
                output.to_vec()
            });
        }
        for (inputs, outputs) in [(1, 1), (31, 5), (64, 8), (130, 3)] {
            let weights = Random::new(inputs as u64).weights(inputs * outputs);
            let data: Vec<i16> = (0..inputs).map(|index| (index * 37 % 4096) as i16 - 2048).collect();
            demand_equal(&format!("{isa} linear layer of {inputs} x {outputs}"), |offset, canary| {
                let weights = Embedded::new(&weights, offset, canary);
                let bias = Embedded::new(&vec![9; outputs], offset, i32::from(canary));
                let scale = Embedded::new(&vec![0.5; outputs], offset, f32::from(canary));
                let parameters = LinearParameters {
                    inputs,
                    outputs,
                    weights: &weights,
                    bias: &bias,
                    scale: &scale,
                    input_limit: 2048,
                };
                let linear = Linear::new(isa, &parameters).unwrap();
                let input = Embedded::new(&data, offset, i16::from(canary) << 8);
                let mut output = Embedded::new(&vec![0.0; outputs], offset, f32::from(canary));
                linear.run(&Sequential, &input, output.get_mut()).unwrap();
                output.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
            });
        }
    }
}

/// The canaries themselves: a test of tests.
#[test]
#[should_panic(expected = "a kernel wrote outside of its buffer")]
fn a_write_beside_a_buffer_is_found() {
    let mut buffer = Embedded::new(&[1u8, 2, 3], 5, 0x5c);
    *buffer.margin_mut() = 0;
}
