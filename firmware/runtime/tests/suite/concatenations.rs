//! Concatenations, whose inputs programs write where they end up: the same bytes as with copies.

use resight_fixtures::Random;
use resight_kernels::{Parallel, Sequential};
use resight_runtime::layers::{Concat, Convolution, GlobalAverage, MaxPool, Table};
use resight_runtime::{Isa, Layers, Program, Quantisation, Target};
use tract_nnef::internal::*;

use crate::common::{both_ways, convolution, input, tensor};

const STEPS: Quantisation = Quantisation { scale: 0.125, zero_point: -128 };

/// Says that it has three threads.
struct Three;

impl Parallel for Three {
    fn threads(&self) -> usize {
        3
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..parts).rev().for_each(task);
    }
}

/// A graph, and how many channels each of its values has. All are 9 x 7.
struct Growing {
    model: TypedModel,
    random: Random,
    values: Vec<(OutletId, usize)>,
}

impl Growing {
    fn new(seed: u64) -> Self {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        Self { model, random: Random::new(seed), values: vec![(image, 3)] }
    }

    fn add(&mut self, layer: impl Into<Box<dyn TypedOp>>, inputs: &[usize], channels: usize) -> usize {
        let inputs: Vec<OutletId> = inputs.iter().map(|&input| self.values[input].0).collect();
        let name = format!("step{}", self.values.len());
        let outlet = self.model.wire_node(name, layer, &inputs).unwrap()[0];
        self.values.push((outlet, channels));
        self.values.len() - 1
    }

    fn convolution(&mut self, value: usize, channels: usize, kernel: usize) -> usize {
        let layer = convolution(&mut self.random, self.values[value].1, channels, kernel, false);
        self.add(layer, &[value], channels)
    }

    /// Of each channel by itself.
    fn depthwise(&mut self, value: usize, kernel: usize) -> usize {
        let channels = self.values[value].1;
        let layer = convolution(&mut self.random, 1, channels, kernel, false);
        let padding_value = tensor(&[channels], &vec![-3i8; channels]);
        self.add(Convolution { groups: channels, padding_value, ..layer }, &[value], channels)
    }

    fn residual(&mut self, value: usize, residual: usize) -> usize {
        let channels = self.values[residual].1;
        let layer = convolution(&mut self.random, self.values[value].1, channels, 1, true);
        self.add(layer, &[value, residual], channels)
    }

    fn concatenation(&mut self, values: &[usize]) -> usize {
        let channels = values.iter().map(|&value| self.values[value].1).sum();
        self.add(Concat { output: STEPS }, values, channels)
    }

    fn table(&mut self, value: usize) -> usize {
        let entries: Vec<i8> = (0..256).map(|q| ((q * 7) % 256 - 128) as i8).collect();
        let channels = self.values[value].1;
        self.add(Table { table: tensor(&[256], &entries), output: STEPS }, &[value], channels)
    }

    fn pool(&mut self, value: usize) -> usize {
        let layer = MaxPool { kernel: [3, 3], stride: [1, 1], padding: [1; 4] };
        let channels = self.values[value].1;
        self.add(layer, &[value], channels)
    }

    fn ending(mut self, outputs: &[usize]) -> TypedModel {
        let outlets: Vec<OutletId> = outputs.iter().map(|&value| self.values[value].0).collect();
        self.model.select_output_outlets(&outlets).unwrap();
        self.model
    }

    /// A step of any kind of any values.
    fn step(&mut self) {
        let any = |random: &mut Random, values: usize| values - 1 - random.below(values.min(6));
        let value = any(&mut self.random, self.values.len());
        let channels = 1 + self.random.below(40);
        match self.random.below(8) {
            0 => self.convolution(value, channels, 1),
            1 => self.convolution(value, channels, 3),
            2 => self.depthwise(value, 3),
            3 => self.depthwise(value, 1),
            4 => match self.random.below(3) {
                0 => self.table(value),
                1 => self.pool(value),
                _ => {
                    let residual = any(&mut self.random, self.values.len());
                    self.residual(value, residual)
                }
            },
            _ => {
                let count = 1 + self.random.below(4);
                let mut values: Vec<usize> =
                    (0..count).map(|_| any(&mut self.random, self.values.len())).collect();
                if self.random.below(2) == 0 {
                    values.sort_unstable();
                    values.dedup();
                }
                let channels = |&value: &usize| self.values[value].1;
                while values.iter().map(channels).sum::<usize>() > 300 {
                    values.pop();
                }
                if values.is_empty() { self.convolution(value, 5, 1) } else { self.concatenation(&values) }
            }
        };
    }
}

fn run(graph: &TypedModel, isa: Isa, parallel: &dyn Parallel) -> Vec<Vec<u8>> {
    let target = Target::reference().with_isa(isa).with_threads(parallel.threads());
    let mut program = Program::compile(graph, &Layers::default(), &target).unwrap();
    // What is left of a run is not taken for what is to be copied.
    program.run(parallel, &[77; 9 * 7 * 3]).unwrap();
    let outputs = program.run(parallel, &input()).unwrap();
    outputs.iter().map(|output| output.bytes.to_vec()).collect()
}

#[test]
fn networks_of_any_concatenations_give_the_same_bytes() {
    for seed in 0..60 {
        let mut growing = Growing::new(seed);
        let steps = 4 + growing.random.below(16);
        for _ in 0..steps {
            growing.step();
        }
        // With every value as an output, each is whole.
        let all: Vec<usize> = (1..growing.values.len()).collect();
        let last = growing.values.len() - 1;
        let other = 1 + growing.random.below(last);
        let outputs: Vec<usize> =
            if other.is_multiple_of(3) && other != last { vec![last, other] } else { vec![last] };
        let mut whole = growing.model.clone();
        let outlets: Vec<OutletId> = all.iter().map(|&value| growing.values[value].0).collect();
        whole.select_output_outlets(&outlets).unwrap();
        let whole = run(&whole, Isa::Generic, &Sequential);
        let graph = growing.ending(&outputs);
        let expected: Vec<&Vec<u8>> = outputs.iter().map(|&value| &whole[value - 1]).collect();
        for isa in Isa::available() {
            for parallel in [&Sequential as &dyn Parallel, &Three] {
                let found = run(&graph, isa, parallel);
                assert_eq!(found.iter().collect::<Vec<_>>(), expected, "seed {seed}, {isa}");
            }
        }
        // Those that watch see whole values.
        let mut program = Program::compile(&graph, &Layers::default(), &Target::reference()).unwrap();
        let names: Vec<String> = program.steps().into_iter().map(|step| step.name).collect();
        let watched = |step: usize, output: &[u8]| {
            let value: usize = names[step].trim_start_matches("step").parse().unwrap();
            assert_eq!(output, whole[value - 1], "seed {seed}, {}", names[step]);
        };
        program.run_observed(&Sequential, &input(), |step, output| watched(step, output.bytes)).unwrap();
    }
}

/// As torchvision's: each layer has what all before it gave.
fn dense(growing: &mut Growing, layers: usize) -> usize {
    let first = growing.convolution(0, 24, 3);
    let first = growing.pool(first);
    let (mut values, mut joined) = (vec![first], first);
    for _ in 0..layers {
        let normalised = growing.depthwise(joined, 1);
        let narrow = growing.convolution(normalised, 32, 1);
        values.push(growing.convolution(narrow, 16, 3));
        joined = growing.concatenation(&values);
    }
    joined
}

#[test]
fn the_layers_of_a_dense_block_share_memory() {
    let graph = |layers| {
        let mut growing = Growing::new(3);
        let joined = dense(&mut growing, layers);
        let average = growing.add(GlobalAverage { fraction_bits: 4 }, &[joined], 24 + 16 * layers);
        growing.ending(&[average])
    };
    both_ways(&graph(6), &Layers::default());
    let bytes = |layers| {
        let target = Target::reference();
        Program::compile(&graph(layers), &Layers::default(), &target).unwrap().working_bytes()
    };
    // Another layer takes its 16 channels once in the concatenation and once normalised; the rest are
    // cache lines and the tensor of 32 channels. A copy for each concatenation would be 24 + 16 x 20 more.
    let growth = (bytes(20) - bytes(10)) / (10 * 63);
    assert!((28..40).contains(&growth), "{growth} bytes of each pixel for a layer");
}
