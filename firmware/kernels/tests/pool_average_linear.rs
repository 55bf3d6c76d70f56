//! Pooling, average and linear layers of every instruction set against plain references.
#![allow(missing_docs)]

mod common;

use common::{Guarded, Random, Threads, available, report_skipped};
use proptest::prelude::*;
use resight_kernels::{
    GlobalAverage, Linear, LinearParameters, MAX_AVERAGE_FRACTION_BITS, MaxPool, Parallel, PoolShape,
    Sequential,
};

fn plain_pool(shape: &PoolShape, input: &[i8]) -> Vec<i8> {
    let [height, width, channels] = shape.input;
    let [output_height, output_width, _] = shape.output();
    let mut output = Vec::new();
    for y in 0..output_height {
        for x in 0..output_width {
            for c in 0..channels {
                let mut maximum = i8::MIN;
                for ky in 0..shape.kernel[0] {
                    for kx in 0..shape.kernel[1] {
                        let y = (y * shape.stride[0] + ky) as i64 - shape.padding[0] as i64;
                        let x = (x * shape.stride[1] + kx) as i64 - shape.padding[1] as i64;
                        if (0..height as i64).contains(&y) && (0..width as i64).contains(&x) {
                            let at = (y as usize * width + x as usize) * channels + c;
                            maximum = maximum.max(input[at]);
                        }
                    }
                }
                output.push(maximum);
            }
        }
    }
    output
}

fn check_pool(shape: &PoolShape, parallel: &dyn Parallel, seed: u64) {
    let input = Random(seed).activations(shape.input.iter().product());
    let expected = plain_pool(shape, &input);
    for isa in available() {
        for side in 0..2 {
            let input = Guarded::new(&input, side);
            let mut output = Guarded::new(&vec![85i8; expected.len()], side);
            MaxPool::new(isa, shape.clone()).unwrap().run(parallel, &input, &mut output).unwrap();
            assert!(*output == *expected, "{isa}: {shape:?}, seed {seed}");
        }
    }
}

#[test]
fn the_pool_of_a_resnet_agrees_on_one_to_eight_threads() {
    report_skipped();
    let shape = PoolShape { input: [112, 112, 64], kernel: [3; 2], stride: [2; 2], padding: [1; 4] };
    for threads in 1..=8 {
        check_pool(&shape, &Threads { threads, twice: threads % 2 == 1 }, threads as u64);
    }
}

fn check_average(input: [usize; 3], fraction_bits: u32, seed: u64) {
    let data = Random(seed).activations(input.iter().product());
    let positions = (input[0] * input[1]) as i64;
    let expected: Vec<i16> = (0..input[2])
        .map(|c| {
            let sum: i64 = data.iter().skip(c).step_by(input[2]).map(|&q| i64::from(q)).sum();
            ((sum * (2 << fraction_bits) + positions).div_euclid(2 * positions)) as i16
        })
        .collect();
    for isa in available() {
        let data = Guarded::new(&data, 0);
        let mut output = Guarded::new(&vec![0i16; input[2]], 0);
        GlobalAverage::new(isa, input, fraction_bits).unwrap().run(&Sequential, &data, &mut output).unwrap();
        assert!(*output == *expected, "{isa}: {input:?}, {fraction_bits} bits, seed {seed}");
    }
}

fn check_linear(inputs: usize, outputs: usize, parallel: &dyn Parallel, seed: u64) {
    let random = &mut Random(seed);
    let weights = random.weights(inputs * outputs);
    let bias: Vec<i32> = (0..outputs).map(|_| random.below(1 << 16) as i32 - (1 << 15)).collect();
    let scale: Vec<f32> = (0..outputs).map(|_| random.unit() as f32 + 1e-3).collect();
    let limit = 128 << 4;
    let mut input: Vec<i16> =
        (0..inputs).map(|_| random.below(2 * limit + 1) as i16 - limit as i16).collect();
    input[0] = -(limit as i16);
    let expected: Vec<f32> = (0..outputs)
        .map(|o| {
            let row = &weights[o * inputs..][..inputs];
            let sum: i64 = row.iter().zip(&input).map(|(&w, &a)| i64::from(w) * i64::from(a)).sum();
            (sum + i64::from(bias[o])) as i32 as f32 * scale[o]
        })
        .collect();
    let parameters = LinearParameters {
        inputs,
        outputs,
        weights: &weights,
        bias: &bias,
        scale: &scale,
        input_limit: limit as i16,
    };
    for isa in available() {
        let input = Guarded::new(&input, 0);
        let mut output = Guarded::new(&vec![0f32; outputs], 0);
        Linear::new(isa, &parameters).unwrap().run(parallel, &input, &mut output).unwrap();
        let same = output.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{isa}: {inputs} x {outputs}, seed {seed}");
    }
}

#[test]
fn the_last_layers_of_a_resnet_agree_on_one_to_eight_threads() {
    report_skipped();
    for channels in [512, 2048] {
        check_average([7, 7, channels], 4, channels as u64);
        for threads in 1..=8 {
            check_linear(channels, 1000, &Threads { threads, twice: threads % 2 == 1 }, threads as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_pool_agrees(
        size in [1usize..14, 1..14],
        channels in 1usize..150,
        kernel in [1usize..5, 1..5],
        stride in [1usize..4, 1..4],
        padding in [0usize..4, 0..4, 0..4, 0..4],
        seed in any::<u64>(),
    ) {
        let shape = PoolShape { input: [size[0], size[1], channels], kernel, stride, padding };
        if shape.validate().is_ok() {
            check_pool(&shape, &Sequential, seed);
        }
    }

    #[test]
    fn any_average_agrees(
        input in [1usize..10, 1..10, 1..150],
        fraction_bits in 0..=MAX_AVERAGE_FRACTION_BITS,
        seed in any::<u64>(),
    ) {
        check_average(input, fraction_bits, seed);
    }

    #[test]
    fn any_linear_agrees(inputs in 1usize..300, outputs in 1usize..40, seed in any::<u64>()) {
        check_linear(inputs, outputs, &Sequential, seed);
    }
}
