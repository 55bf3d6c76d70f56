//! Max pool, global average and linear layers of every instruction set against plain references.
#![allow(missing_docs)]

mod common;

use common::{Guarded, Random, Threads, available, report_skipped};
use proptest::prelude::*;
use resight_kernels::{
    GlobalAverage, Linear, LinearParameters, MaxPool, Parallel, PoolShape, Sequential, Table,
};

/// One thread, and more threads than there is work for some of the shapes.
fn parallels() -> Vec<Box<dyn Parallel>> {
    vec![
        Box::new(Sequential),
        Box::new(Threads { threads: 3, twice: false }),
        Box::new(Threads { threads: 8, twice: true }),
    ]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn one_to_eight_threads_give_identical_bytes() {
    report_skipped();
    let random = &mut Random::new(9);
    let image = random.activations(15 * 13 * 192);
    let averages: Vec<i16> = (0..300).map(|_| random.next() as i16 >> 4).collect();
    let parameters = LinearParameters {
        inputs: 300,
        outputs: 37,
        weights: &random.weights(300 * 37),
        bias: &[11; 37],
        scale: &[0.37; 37],
        input_limit: 2048,
    };
    for isa in available() {
        let pool = MaxPool::new(isa, pool([15, 13, 192], 3, 2, 1)).unwrap();
        let average = GlobalAverage::new(isa, [15, 13, 192], 4).unwrap();
        let linear = Linear::new(isa, &parameters).unwrap();
        let run = |parallel: &dyn Parallel| {
            let mut pooled = vec![85; pool.shape().output().iter().product()];
            let (mut means, mut logits) = (vec![85i16; 192], vec![0f32; 37]);
            pool.run(parallel, &image, &mut pooled).unwrap();
            average.run(parallel, &image, &mut means).unwrap();
            linear.run(parallel, &averages, &mut logits).unwrap();
            (pooled, means, bits(&logits))
        };
        let expected = run(&Sequential);
        for threads in 1..=8 {
            let found = run(&Threads { threads, twice: threads % 2 == 0 });
            assert!(expected == found, "{isa}: {threads} threads");
        }
    }
}

fn check_pool(shape: &PoolShape, seed: u64) {
    let input = Random::new(seed).activations(shape.input.iter().product());
    let [height, width, channels] = shape.input;
    let [output_height, output_width, _] = shape.output();
    let mut expected = Vec::new();
    for (oy, ox) in (0..output_height).flat_map(|y| (0..output_width).map(move |x| (y, x))) {
        for channel in 0..channels {
            let mut largest = i8::MIN;
            for (ky, kx) in (0..shape.kernel[0]).flat_map(|y| (0..shape.kernel[1]).map(move |x| (y, x))) {
                let y = (oy * shape.stride[0] + ky) as i64 - shape.padding[0] as i64;
                let x = (ox * shape.stride[1] + kx) as i64 - shape.padding[1] as i64;
                if (0..height as i64).contains(&y) && (0..width as i64).contains(&x) {
                    largest = largest.max(input[(y as usize * width + x as usize) * channels + channel]);
                }
            }
            expected.push(largest);
        }
    }
    for isa in available() {
        let pool = MaxPool::new(isa, shape.clone()).unwrap();
        for parallel in parallels() {
            for side in 0..2 {
                let input = Guarded::new(&input, side);
                let mut output = Guarded::new(&vec![85; expected.len()], side);
                pool.run(&*parallel, &input, &mut output).unwrap();
                assert_eq!(&output[..], expected, "{isa}, {} threads, {shape:?}", parallel.threads());
            }
        }
    }
}

fn check_average(shape: [usize; 3], fraction_bits: u32, seed: u64) {
    let mut random = Random::new(seed);
    let mut input = random.activations(shape.iter().product());
    if seed.is_multiple_of(3) {
        input.fill(if seed.is_multiple_of(2) { i8::MIN } else { i8::MAX });
    }
    let positions = (shape[0] * shape[1]) as i64;
    let expected: Vec<i16> = (0..shape[2])
        .map(|channel| {
            let sum: i64 = input[channel..].iter().step_by(shape[2]).map(|&q| i64::from(q)).sum();
            ((sum << (fraction_bits + 1)) + positions).div_euclid(2 * positions) as i16
        })
        .collect();
    for isa in available() {
        let average = GlobalAverage::new(isa, shape, fraction_bits).unwrap();
        for parallel in parallels() {
            for side in 0..2 {
                let input = Guarded::new(&input, side);
                let mut output = Guarded::new(&vec![85i16; expected.len()], side);
                average.run(&*parallel, &input, &mut output).unwrap();
                assert_eq!(&output[..], expected, "{isa}, {} threads, {shape:?}", parallel.threads());
            }
        }
    }
}

fn check_table(pixels: usize, functions: usize, seed: u64) {
    let mut random = Random::new(seed);
    let input = random.activations(pixels * functions);
    let results = random.activations(256 * functions);
    let tables: Vec<[i8; 256]> = results.as_chunks().0.to_vec();
    let result = |(index, &value): (usize, &i8)| tables[index % functions][(i32::from(value) + 128) as usize];
    let expected: Vec<i8> = input.iter().enumerate().map(result).collect();
    for isa in available() {
        let table = Table::new(isa, tables.clone()).unwrap();
        for parallel in parallels() {
            for side in 0..2 {
                let input = Guarded::new(&input, side);
                let mut output = Guarded::new(&vec![85; expected.len()], side);
                table.run(&*parallel, &input, &mut output).unwrap();
                assert_eq!(&output[..], expected, "{isa}, {} threads, {pixels}", parallel.threads());
            }
        }
    }
}

#[test]
fn every_value_is_looked_up() {
    for isa in available() {
        let values: Vec<i8> = (-128..=127).collect();
        let squares: [i8; 256] = core::array::from_fn(|index| (index * index % 251) as u8 as i8);
        let table = Table::new(isa, vec![squares]).unwrap();
        let mut found = vec![0; 256];
        table.run(&Sequential, &values, &mut found).unwrap();
        assert_eq!(found, squares, "{isa}");
        let error = table.run(&Sequential, &values, &mut found[1..]).unwrap_err().to_string();
        assert_eq!(error, "input has 256 elements, expected 255");
        let table = Table::new(isa, vec![squares; 3]).unwrap();
        let error = table.run(&Sequential, &values, &mut found).unwrap_err().to_string();
        assert_eq!(error, "output has 256 elements, expected 255");
        let error = Table::new(isa, vec![]).unwrap_err().to_string();
        assert_eq!(error, "a table has no function");
    }
}

fn check_linear(inputs: usize, outputs: usize, seed: u64) {
    let mut random = Random::new(seed);
    let limit = 2048i16;
    let weights = random.weights(inputs * outputs);
    let bias: Vec<i32> = (0..outputs).map(|_| random.next() as i32 >> 8).collect();
    let scale: Vec<f32> = (0..outputs).map(|_| random.unit() as f32 + 1e-3).collect();
    let extreme = seed.is_multiple_of(2);
    let input: Vec<i16> =
        (0..inputs).map(|_| if extreme { -limit } else { random.below(4097) as i16 - limit }).collect();
    let expected: Vec<u32> = (0..outputs)
        .map(|output| {
            let row = &weights[output * inputs..][..inputs];
            let products = row.iter().zip(&input).map(|(&w, &a)| i64::from(w) * i64::from(a));
            let sum = i64::from(bias[output]) + products.sum::<i64>();
            (sum as f32 * scale[output]).to_bits()
        })
        .collect();
    let parameters = LinearParameters {
        inputs,
        outputs,
        weights: &weights,
        bias: &bias,
        scale: &scale,
        input_limit: limit,
    };
    for isa in available() {
        let linear = Linear::new(isa, &parameters).unwrap();
        for parallel in parallels() {
            for side in 0..2 {
                let input = Guarded::new(&input, side);
                let mut output = Guarded::new(&vec![0f32; outputs], side);
                linear.run(&*parallel, &input, &mut output).unwrap();
                assert_eq!(
                    bits(&output),
                    expected,
                    "{isa}, {} threads, {inputs} x {outputs}",
                    parallel.threads()
                );
            }
        }
    }
}

fn pool(input: [usize; 3], kernel: usize, stride: usize, padding: usize) -> PoolShape {
    PoolShape { input, kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4] }
}

#[test]
fn the_layers_of_resnets_agree() {
    report_skipped();
    check_pool(&pool([112, 112, 64], 3, 2, 1), 1);
    for seed in 2..5 {
        check_average([7, 7, 2048], 4, seed);
        check_average([7, 7, 512], 4, seed);
        check_linear(2048, 1000, seed);
        check_linear(512, 1000, seed);
    }
}

#[test]
fn one_pixel_and_one_channel_agree() {
    check_pool(&pool([1, 1, 1], 1, 1, 0), 1);
    check_pool(&pool([1, 1, 130], 3, 2, 1), 2);
    check_average([1, 1, 1], 0, 3);
    check_average([1, 1, 65], 7, 4);
    check_linear(1, 1, 5);
    // More than one part.
    check_table(40_000, 1, 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_pool_agrees(
        height in 1usize..12, width in 1usize..12, channels in 1usize..140,
        kernel in 1usize..5, stride in 1usize..4, padding in 0usize..4, seed: u64,
    ) {
        let shape = pool([height, width, channels], kernel, stride, padding.min(kernel - 1));
        prop_assume!(shape.validate().is_ok());
        check_pool(&shape, seed);
    }

    #[test]
    fn any_average_agrees(
        height in 1usize..12, width in 1usize..12, channels in 1usize..200,
        fraction_bits in 0u32..=7, seed: u64,
    ) {
        check_average([height, width, channels], fraction_bits, seed);
    }

    #[test]
    fn any_table_agrees(pixels in 1usize..400, functions in 1usize..4, seed: u64) {
        check_table(pixels, functions, seed);
    }

    #[test]
    fn any_linear_layer_agrees(inputs in 1usize..300, outputs in 1usize..40, seed: u64) {
        check_linear(inputs, outputs, seed);
    }
}
