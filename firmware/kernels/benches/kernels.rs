//! Time and throughput of every available kernel, on the layers that a ResNet-50 is made of.
//!
//! `cargo bench -p resight-kernels -- x86_vnni` runs those of one instruction set.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use resight_fixtures::Random;
use resight_kernels::arithmetic::quantise_multipliers;
use resight_kernels::{
    Convolution, ConvolutionParameters, ConvolutionShape, GlobalAverage, Isa, Linear, LinearParameters,
    MaxPool, PoolShape, Sequential,
};

/// Name, size, channels in and out, kernel, stride, groups, with a residual.
#[allow(clippy::type_complexity, reason = "a table, read once below")]
const CONVOLUTIONS: [(&str, usize, [usize; 2], usize, usize, usize, bool); 9] = [
    ("stem", 224, [3, 64], 7, 2, 1, false),
    ("56 reduce", 56, [256, 64], 1, 1, 1, false),
    ("56 spatial", 56, [64, 64], 3, 1, 1, false),
    ("56 expand", 56, [64, 256], 1, 1, 1, true),
    ("28 shortcut", 56, [256, 512], 1, 2, 1, false),
    ("14 spatial", 14, [256, 256], 3, 1, 1, false),
    ("14 expand", 14, [256, 1024], 1, 1, 1, true),
    ("7 spatial", 7, [512, 512], 3, 1, 1, false),
    ("28 depthwise", 28, [128, 128], 3, 1, 128, false),
];

fn bytes(n: usize) -> Vec<i8> {
    Random::new(1).weights(n)
}

fn convolutions(criterion: &mut Criterion) {
    for (name, size, channels, kernel, stride, groups, residual) in CONVOLUTIONS {
        let shape = ConvolutionShape {
            input: [size, size, channels[0]],
            output_channels: channels[1],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 4],
            dilation: [1; 2],
            groups,
        };
        let real = 50.0 / (73.0 * 73.0 * (shape.depth() as f64).sqrt());
        let (shift, multiplier) =
            quantise_multipliers(&vec![real; channels[1]]).expect("a positive multiplier");
        let weights = bytes(shape.weights_len());
        let parameters = ConvolutionParameters {
            weights: &weights,
            bias: &vec![100; channels[1]],
            multiplier: &multiplier,
            shift,
            residual_multiplier: residual.then_some(200),
            padding_value: &vec![-3; channels[0]],
            shape: shape.clone(),
        };
        let input = bytes(shape.input_len());
        let residual = residual.then(|| bytes(shape.output_len()));
        let mut output = vec![0; shape.output_len()];
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(shape.macs()));
        // The reference takes a second for some of these.
        for isa in Isa::available().filter(|&isa| isa != Isa::Generic) {
            let convolution = Convolution::new(isa, &parameters).expect("valid parameters");
            let mut scratch = vec![0; convolution.scratch_len(1)];
            group.bench_function(convolution.kernel(), |bencher| {
                bencher.iter(|| {
                    convolution
                        .run(&Sequential, black_box(&input), residual.as_deref(), &mut output, &mut scratch)
                        .expect("buffers of the right lengths");
                });
            });
        }
        group.finish();
    }
}

fn others(criterion: &mut Criterion) {
    for isa in Isa::available() {
        let shape = PoolShape { input: [112, 112, 64], kernel: [3; 2], stride: [2; 2], padding: [1; 4] };
        let pool = MaxPool::new(isa, shape).expect("a valid shape");
        let (input, mut output) = (bytes(112 * 112 * 64), vec![0; 56 * 56 * 64]);
        criterion.bench_function(&format!("max pool/{isa}"), |bencher| {
            bencher.iter(|| pool.run(&Sequential, black_box(&input), &mut output).expect("right lengths"));
        });

        let average = GlobalAverage::new(isa, [7, 7, 2048], 4).expect("a valid shape");
        let (input, mut averages) = (bytes(7 * 7 * 2048), vec![0; 2048]);
        criterion.bench_function(&format!("average/{isa}"), |bencher| {
            bencher
                .iter(|| average.run(&Sequential, black_box(&input), &mut averages).expect("right lengths"));
        });

        let parameters = LinearParameters {
            inputs: 2048,
            outputs: 1000,
            weights: &bytes(2048 * 1000),
            bias: &[7; 1000],
            scale: &[1e-4; 1000],
            input_limit: 128 << 4,
        };
        let linear = Linear::new(isa, &parameters).expect("valid parameters");
        let (input, mut logits) = (vec![321; 2048], vec![0.0; 1000]);
        criterion.bench_function(&format!("linear/{isa}"), |bencher| {
            bencher.iter(|| linear.run(&Sequential, black_box(&input), &mut logits).expect("right lengths"));
        });
    }
}

criterion_group!(kernels, convolutions, others);
criterion_main!(kernels);
