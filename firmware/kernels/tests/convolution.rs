//! Every kernel of every instruction set against a plain reference: equality is exact.
#![allow(missing_docs)]

mod common;

use common::{Case, Threads, Values, available, compare, report_skipped, resnet_layers, square};
use proptest::prelude::*;
use resight_kernels::{
    CacheSizes, Convolution, ConvolutionShape, Isa, KernelError, Sequential, Strided, StridedMut,
};

/// The shapes that once were, or could be, an edge of some kernel.
fn table() -> Vec<ConvolutionShape> {
    let mut table = vec![
        square(1, 1, 1, 1, 1, 0),
        square(7, 16, 16, 1, 1, 0),
        square(7, 64, 32, 1, 1, 0),
        square(5, 80, 48, 1, 1, 0),
        square(7, 17, 19, 1, 1, 0),
        square(7, 15, 33, 1, 2, 0),
        square(7, 32, 64, 3, 1, 1),
        square(8, 32, 20, 3, 1, 1),
        square(9, 32, 16, 3, 1, 1),
        square(10, 16, 32, 3, 1, 1),
        square(11, 48, 40, 3, 1, 0),
        square(3, 16, 16, 3, 1, 1),
        square(1, 16, 16, 3, 1, 1),
        square(2, 24, 12, 3, 1, 2),
        square(14, 16, 16, 3, 2, 1),
        square(13, 5, 7, 3, 2, 1),
        square(23, 3, 64, 7, 2, 3),
        square(20, 3, 30, 7, 2, 3),
        square(9, 1, 1, 9, 1, 8),
        square(4, 4, 4, 2, 3, 1),
    ];
    let grouped = |mut shape: ConvolutionShape, groups| {
        shape.groups = groups;
        shape
    };
    table.push(grouped(square(7, 32, 32, 3, 1, 1), 32));
    table.push(grouped(square(6, 19, 19, 3, 1, 1), 19));
    table.push(grouped(square(6, 19, 38, 5, 2, 2), 19));
    table.push(grouped(square(5, 83, 83, 3, 2, 1), 83));
    table.push(grouped(square(3, 160, 160, 1, 1, 0), 160));
    table.push(grouped(square(6, 16, 16, 1, 1, 0), 16));
    table.push(grouped(square(7, 128, 128, 3, 1, 1), 32));
    table.push(grouped(square(7, 64, 96, 3, 2, 1), 2));
    table.push(grouped(square(7, 30, 21, 3, 1, 1), 3));
    let mut dilated = square(11, 16, 24, 3, 1, 2);
    dilated.dilation = [2, 3];
    table.push(dilated.clone());
    dilated.output_channels = 16;
    table.push(grouped(dilated, 16));
    let mut dilated = square(12, 3, 5, 3, 1, 0);
    dilated.dilation = [1, 2];
    table.push(dilated);
    let mut uneven = square(6, 32, 32, 3, 1, 1);
    uneven.padding = [0, 2, 3, 1];
    table.push(uneven);
    let mut uneven = square(6, 16, 16, 3, 1, 0);
    uneven.input = [3, 13, 16];
    uneven.kernel = [1, 4];
    uneven.stride = [2, 1];
    uneven.padding = [1, 0, 0, 2];
    table.push(uneven);
    table
}

#[test]
fn every_kernel_agrees_on_the_table() {
    report_skipped();
    for (index, shape) in table().iter().enumerate() {
        for (v, values) in [Values::Uniform, Values::Extreme, Values::Saturating].into_iter().enumerate() {
            for residual in [false, true] {
                let seed = (index * 6 + v * 2 + usize::from(residual)) as u64;
                Case::new(shape, values, residual, seed).check_all(seed);
            }
        }
    }
}

#[test]
fn every_number_of_rows_and_columns_agrees() {
    report_skipped();
    for pixels in 1..=25 {
        for channels in [1, 3, 4, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65] {
            let mut shape = square(1, 16 * (1 + pixels % 5), channels, 1, 1, 0);
            shape.input[1] = pixels;
            let seed = (pixels * 100 + channels) as u64;
            Case::new(&shape, Values::Uniform, pixels % 2 == 0, seed).check_all(seed);
        }
    }
}

/// Channels as they are, few pixels: affordable under emulation.
#[test]
fn every_resnet_layer_agrees_with_few_pixels() {
    report_skipped();
    for (index, (mut shape, residual)) in resnet_layers().into_iter().enumerate() {
        shape.input[0] = shape.input[0].min(shape.kernel[0] + 1);
        shape.input[1] = shape.input[1].min(shape.kernel[1] + 2);
        let seed = 1000 + index as u64;
        Case::new(&shape, Values::Uniform, residual, seed).check_all(seed);
    }
}

/// The true sizes on every instruction set; the reference is computed for a sample of pixels.
#[test]
fn every_resnet_layer_agrees_at_its_true_size() {
    report_skipped();
    for (index, (shape, residual)) in resnet_layers().into_iter().enumerate() {
        let seed = 2000 + index as u64;
        let case = Case::new(&shape, Values::Uniform, residual, seed);
        let pixels = case.pixels();
        let sample: Vec<usize> = (0..pixels).filter(|p| *p < 2 || *p + 9 > pixels || p % 229 == 7).collect();
        let expected: Vec<i8> = sample.iter().flat_map(|&pixel| case.plain_pixel(pixel)).collect();
        for isa in available().into_iter().filter(|isa| *isa != Isa::Generic) {
            let found = case.run(isa, &Sequential, index % 2);
            let channels = shape.output_channels;
            let found: Vec<i8> =
                sample.iter().flat_map(|&pixel| &found[pixel * channels..][..channels]).copied().collect();
            assert!(expected == found, "{isa}: {shape:?}, residual {residual}, seed {seed}");
        }
    }
}

#[test]
fn one_to_eight_threads_give_identical_bytes() {
    report_skipped();
    for (index, shape) in [
        square(28, 32, 48, 3, 1, 1),
        square(7, 64, 200, 1, 1, 0),
        square(2, 16, 16, 1, 1, 0),
        square(31, 3, 64, 7, 2, 3),
        square(14, 64, 128, 3, 1, 1),
        square(9, 48, 192, 1, 1, 0),
        square(5, 3, 64, 5, 1, 4),
    ]
    .iter()
    .enumerate()
    {
        let case = Case::new(shape, Values::Uniform, true, index as u64);
        let expected = case.plain();
        for isa in available() {
            for threads in 1..=8 {
                let parallel = Threads { threads, twice: threads % 2 == 0 };
                let found = case.run(isa, &parallel, threads % 2);
                compare(isa, &case, &expected, &found, index as u64);
                let found = case.run_strided(isa, &parallel, threads % 2, threads);
                compare(isa, &case, &expected, &found, index as u64);
            }
        }
    }
}

/// The exact Winograd kernel needs sums below 2^25; others must be computed directly.
#[cfg(target_arch = "aarch64")]
#[test]
fn winograd_is_taken_when_it_is_exact_and_pays() {
    let kernel = |shape: &ConvolutionShape, weight: i8| {
        let mut case = Case::new(shape, Values::Uniform, false, 0);
        case.weights.fill(weight);
        Convolution::new(Isa::NeonMlal, &case.parameters()).unwrap().kernel()
    };
    assert_eq!(kernel(&square(14, 256, 256, 3, 1, 1), 50), "neon_mlal_winograd_4x4");
    assert_eq!(kernel(&square(14, 256, 256, 3, 1, 1), 127), "neon_mlal_4x16");
    assert_eq!(kernel(&square(2, 256, 256, 3, 1, 1), 50), "neon_mlal_4x16");
    assert_eq!(kernel(&square(14, 256, 256, 3, 2, 1), 50), "neon_mlal_4x16");
    // 9 x 400 x 72 x 128 is just below 2^25, 9 x 400 x 73 x 128 just above.
    assert_eq!(kernel(&square(14, 400, 16, 3, 1, 1), 72), "neon_mlal_winograd_4x4");
    assert_eq!(kernel(&square(14, 400, 16, 3, 1, 1), 73), "neon_mlal_4x16");
}

#[test]
fn wrong_lengths_are_errors() {
    let case = Case::new(&square(5, 16, 16, 3, 1, 1), Values::Uniform, true, 0);
    for isa in available() {
        let convolution = Convolution::new(isa, &case.parameters()).unwrap();
        let mut output = vec![0; case.shape.output_len()];
        let mut scratch = vec![0; convolution.scratch_len(1)];
        let residual = case.residual.as_deref();
        let mut run = |input: &[i8], residual: Option<&[i8]>, scratch: &mut [u8]| {
            convolution.run(&Sequential, input, residual, &mut output, scratch)
        };
        run(&case.input, residual, &mut scratch).unwrap();
        let wrong = |what, expected, found| Err(KernelError::Length { what, expected, found });
        let [len, needed] = [case.input.len(), scratch.len()];
        assert_eq!(run(&case.input[1..], residual, &mut scratch), wrong("input", len, len - 1));
        let residual_len = case.shape.output_len();
        assert_eq!(run(&case.input, None, &mut scratch), wrong("residual", residual_len, 0));
        if needed > 0 {
            let short = &mut scratch[..needed - 1];
            assert_eq!(run(&case.input, residual, short), wrong("scratch", needed, needed - 1));
        }
    }
}

#[test]
fn depthwise_layers_have_a_kernel_of_their_own() {
    for isa in available() {
        for (outputs, groups, own) in [(48, 48, true), (96, 48, false), (48, 24, false)] {
            let mut shape = square(5, 48, outputs, 3, 1, 1);
            shape.groups = groups;
            let case = Case::new(&shape, Values::Uniform, false, 0);
            let kernel = Convolution::new(isa, &case.parameters()).unwrap().kernel();
            let expected = own && isa != Isa::Generic;
            assert_eq!(kernel.ends_with("_depthwise"), expected, "{isa}: {kernel}");
            assert!(kernel.starts_with(isa.name()), "{isa}: {kernel}");
        }
    }
}

/// Any window over any number of channels, one in each group.
fn depthwise() -> impl Strategy<Value = ConvolutionShape> {
    (shapes(), 1usize..150).prop_map(|(mut shape, channels)| {
        shape.input[2] = channels;
        shape.output_channels = channels;
        shape.groups = channels;
        shape
    })
}

fn shapes() -> impl Strategy<Value = ConvolutionShape> {
    (
        [1usize..14, 1..14],
        [1usize..40, 1..40, 1..5],
        [1usize..6, 1..6],
        [1usize..4, 1..4],
        [0usize..4, 0..4, 0..4, 0..4],
        [1usize..3, 1..3],
        any::<bool>(),
    )
        .prop_map(|(size, [inputs, outputs, groups], kernel, stride, padding, dilation, three)| {
            // Every other case is the most common kernel.
            let kernel = if three { [3, 3] } else { kernel };
            let (stride, dilation) = if three { ([1, 1], [1, 1]) } else { (stride, dilation) };
            let groups = if three { 1 } else { groups };
            ConvolutionShape {
                input: [size[0], size[1], inputs.next_multiple_of(groups)],
                output_channels: outputs.next_multiple_of(groups),
                kernel,
                stride,
                padding,
                dilation,
                groups,
            }
        })
        .prop_filter("window fits", |shape| shape.validate().is_ok())
}

/// 3x3 of stride 1 with whole column blocks: what Winograd tiles, their edges included.
fn three_by_three() -> impl Strategy<Value = ConvolutionShape> {
    ([2usize..24, 2..24], [1usize..5, 1..4], [0usize..3, 0..3, 0..3, 0..3])
        .prop_map(|(size, [inputs, outputs], padding)| ConvolutionShape {
            input: [size[0], size[1], inputs * 16],
            output_channels: outputs * 16,
            kernel: [3, 3],
            stride: [1, 1],
            padding,
            dilation: [1, 1],
            groups: 1,
        })
        .prop_filter("window fits", |shape| shape.validate().is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_agrees_on_depthwise_layers(
        shape in depthwise(),
        values in prop_oneof![Just(Values::Uniform), Just(Values::Extreme), Just(Values::Saturating)],
        residual in any::<bool>(),
        threads in 1usize..5,
        seed in any::<u64>(),
    ) {
        let case = Case::new(&shape, values, residual, seed);
        let expected = case.plain();
        for isa in available() {
            let found = case.run(isa, &Threads { threads, twice: false }, threads % 2);
            compare(isa, &case, &expected, &found, seed);
        }
    }

    #[test]
    fn every_kernel_agrees_on_3x3(
        shape in three_by_three(),
        values in prop_oneof![Just(Values::Uniform), Just(Values::Extreme), Just(Values::Saturating)],
        residual in any::<bool>(),
        threads in 1usize..5,
        seed in any::<u64>(),
    ) {
        let case = Case::new(&shape, values, residual, seed);
        let expected = case.plain();
        for isa in available() {
            let found = case.run(isa, &Threads { threads, twice: false }, threads % 2);
            compare(isa, &case, &expected, &found, seed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_agrees_on_any_shape(
        shape in shapes(),
        values in prop_oneof![Just(Values::Uniform), Just(Values::Extreme), Just(Values::Saturating)],
        residual in any::<bool>(),
        seed in any::<u64>(),
    ) {
        Case::new(&shape, values, residual, seed).check_all(seed);
    }
}

fn any_caches() -> impl Strategy<Value = CacheSizes> {
    let size = || prop_oneof![Just(0), Just(usize::MAX), 1usize..1 << 12, 1usize << 12..1 << 22];
    (size(), size(), 0usize..9, size()).prop_map(|(l1d, l2, l2_cores, l3)| CacheSizes {
        l1d,
        l2,
        l2_cores,
        l3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Caches decide about blocks, not about results.
    #[test]
    fn any_cache_sizes_give_identical_bytes(
        shape in prop_oneof![three_by_three(), shapes()],
        caches in any_caches(),
        threads in 1usize..9,
        seed in any::<u64>(),
    ) {
        let case = Case::new(&shape, Values::Uniform, seed % 2 == 0, seed);
        let expected = case.plain();
        for isa in available() {
            let convolution = Convolution::with_caches(isa, &case.parameters(), caches).unwrap();
            let found = case.run_packed(&convolution, &Threads { threads, twice: false }, threads % 2);
            compare(isa, &case, &expected, &found, seed);
        }
    }
}

/// Splits the rows of the output into bands of different heights, each computed by a layer of its own.
#[test]
fn bands_give_what_the_whole_layer_gives_and_a_residual_may_lie_in_the_output() {
    for (seed, shape) in table().iter().enumerate() {
        let case = Case::new(shape, Values::Uniform, true, seed as u64);
        let expected = case.plain();
        let residual = case.residual.as_deref().unwrap();
        let [height, width, channels] = shape.output();
        let row = width * channels;
        for isa in available() {
            let whole = Convolution::new(isa, &case.parameters()).unwrap();
            let threads = Threads { threads: 3, twice: true };
            let (mut start, mut next) = (0, 4);
            while start < height {
                let mut end = (start + next).min(height);
                // Winograd's algorithm takes two rows at least.
                end = if height - end < 2 { height } else { end };
                next = next % 5 + 2;
                let rows = start..end;
                start = end;
                let (Some(input), Some(band)) = (whole.band_input(rows.clone()), whole.band(rows.clone()))
                else {
                    continue;
                };
                let input_row = shape.input[1] * shape.input[2];
                let input = &case.input[input.start * input_row..input.end * input_row];
                let own = if residual.len() == expected.len() {
                    &residual[rows.start * row..rows.end * row]
                } else {
                    residual
                };
                let expected = &expected[rows.start * row..rows.end * row];
                let mut scratch = vec![0; band.scratch_len(3)];
                let mut output = vec![0; expected.len()];
                band.run(&threads, input, Some(own), &mut output, &mut scratch).unwrap();
                assert!(output == expected, "{isa}, {shape:?}, rows {rows:?}");
                output.fill(0);
                if own.len() != output.len() {
                    continue;
                }
                output.copy_from_slice(own);
                let inputs = shape.input[2];
                let read = Strided::new(input, 0, inputs, inputs).unwrap();
                let written = StridedMut::new(&mut output, 0, channels, channels).unwrap();
                let done = band.run_in_place(&threads, read, written, &mut scratch);
                if band.adds_in_place() {
                    assert!(done.is_ok() && output == expected, "in place, {isa}, {shape:?}, rows {rows:?}");
                } else {
                    assert!(done.unwrap_err().to_string().contains("in place"), "{isa}");
                }
            }
            let bands = whole.band_input(0..1).is_some();
            assert!(bands || shape.is_depthwise() || shape.padding[0] >= shape.kernel[0], "{isa}, {shape:?}");
        }
    }
}
