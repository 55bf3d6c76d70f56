//! Runs every layer of ResNet-50 or ResNet-101 v1.5 at 224 x 224 once, with random weights.
//!
//! For counting guest instructions per layer under QEMU: each layer is preceded by the mark
//! that the plugin in `cross/measure/counter` listens to. On real hardware the mark is a harmless
//! system call, and the times are printed instead.
//!
//! Usage: `layers [--isa NAME] [--depth 50|101] [--threads N] [--parts N] [--runs N]
//! [--caches L1,L2,L3] [--packing yes]`; only the last run is marked and timed. With `--parts` layers
//! are cut for so many threads, and each part is marked and runs in turn. With `--packing`, what makes the
//! layers from their parameters is marked too. Caches are in KiB, of one core; 0 for no third level.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints what it measures")]

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use resight_fixtures::Random;
use resight_kernels::arithmetic::quantise_multipliers;
use resight_kernels::{
    CacheSizes, Convolution, ConvolutionParameters, ConvolutionShape, GlobalAverage, Isa, KernelError,
    Linear, LinearParameters, MaxPool, Parallel, PoolShape, Sequential,
};

unsafe extern "C" {
    /// From the C library: std has no name for it.
    fn getpriority(which: c_int, who: c_uint) -> c_int;
}

/// What is not counted.
const OUTSIDE: usize = 1 << 16;
/// What packs the layers.
const PACKING: usize = 1 << 17;

fn mark(id: usize) {
    // SAFETY: takes two integers, touches no memory.
    unsafe { getpriority(0x4d41_524b, id as c_uint) };
}

/// About normal, as trained weights are, with a standard deviation of 37.
fn weights(random: &mut Random, n: usize) -> Vec<i8> {
    let mut weight = || random.activations(4).iter().map(|&value| i32::from(value)).sum::<i32>() / 4;
    (0..n).map(|_| weight().max(-127) as i8).collect()
}

/// A thread for each part; only for a look at scaling, a pool is cheaper.
struct Threads(usize);

impl Parallel for Threads {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for part in 1..parts {
                scope.spawn(move || task(part));
            }
            task(0);
        });
    }
}

/// Cuts layers for some threads and runs the parts in turn, each after a mark of its own.
struct Parts {
    threads: usize,
    /// Of the layer that runs.
    mark: AtomicUsize,
}

impl Parallel for Parts {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        let layer = self.mark.load(Ordering::Relaxed);
        for part in 0..parts {
            if layer != OUTSIDE {
                mark((part + 1) << 8 | layer);
            }
            task(part);
        }
        if layer != OUTSIDE {
            mark(layer);
        }
    }
}

/// What layers are made for.
#[derive(Clone, Copy)]
struct Target {
    isa: Isa,
    caches: CacheSizes,
    /// Marks what packs them.
    packing: bool,
}

impl Target {
    /// Runs what packs a layer.
    fn pack<R>(self, pack: impl FnOnce() -> Result<R, KernelError>) -> Result<R, KernelError> {
        if !self.packing {
            return pack();
        }
        mark(PACKING);
        let packed = pack();
        mark(OUTSIDE);
        packed
    }
}

/// The kinds of layers, in the order in which they run.
enum Layer {
    Convolution(Box<Convolution>, bool),
    MaxPool(MaxPool),
    Average(GlobalAverage),
    Linear(Linear),
}

fn convolution(
    target: Target,
    random: &mut Random,
    size: usize,
    channels: [usize; 2],
    [kernel, stride]: [usize; 2],
    residual: bool,
) -> Result<Layer, KernelError> {
    let shape = ConvolutionShape {
        input: [size, size, channels[0]],
        output_channels: channels[1],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 4],
        dilation: [1; 2],
        groups: 1,
    };
    let spread = 73.0 * 73.0 * (shape.depth() as f64).sqrt();
    let (shift, multiplier) =
        quantise_multipliers(&vec![50.0 / spread; channels[1]]).expect("a positive multiplier");
    let weights = weights(random, shape.weights_len());
    let parameters = ConvolutionParameters {
        weights: &weights,
        bias: &vec![100; channels[1]],
        multiplier: &multiplier,
        shift,
        residual_multiplier: residual.then_some(200),
        padding_value: &vec![-3; channels[0]],
        shape,
    };
    let convolution = target.pack(|| Convolution::with_caches(target.isa, &parameters, target.caches))?;
    Ok(Layer::Convolution(Box::new(convolution), residual))
}

fn network(target: Target, depth: usize) -> Result<Vec<(String, Layer)>, KernelError> {
    let isa = target.isa;
    let random = &mut Random::new(1);
    let mut layers = Vec::new();
    layers.push(("stem".into(), convolution(target, random, 224, [3, 64], [7, 2], false)?));
    let shape = PoolShape { input: [112, 112, 64], kernel: [3; 2], stride: [2; 2], padding: [1; 4] };
    layers.push(("max pool".into(), Layer::MaxPool(MaxPool::new(isa, shape)?)));
    let blocks = [3, 4, if depth == 101 { 23 } else { 6 }, 3];
    let mut inputs = 64;
    for (stage, blocks) in blocks.into_iter().enumerate() {
        let middle = 64 << stage;
        for block in 0..blocks {
            let mut add = |name: &str, layer| layers.push((format!("{}.{block}.{name}", stage + 1), layer));
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let after = 56 >> stage;
            let before = after * stride;
            let outputs = middle * 4;
            if block == 0 {
                add("shortcut", convolution(target, random, before, [inputs, outputs], [1, stride], false)?);
            }
            add("reduce", convolution(target, random, before, [inputs, middle], [1, 1], false)?);
            add("spatial", convolution(target, random, before, [middle; 2], [3, stride], false)?);
            add("expand", convolution(target, random, after, [middle, outputs], [1, 1], true)?);
            inputs = outputs;
        }
    }
    layers.push(("average".into(), Layer::Average(GlobalAverage::new(isa, [7, 7, 2048], 4)?)));
    let parameters = LinearParameters {
        inputs: 2048,
        outputs: 1000,
        weights: &weights(random, 2048 * 1000),
        bias: &[7; 1000],
        scale: &[1e-4; 1000],
        input_limit: 128 << 4,
    };
    layers.push(("linear".into(), Layer::Linear(target.pack(|| Linear::new(isa, &parameters))?)));
    Ok(layers)
}

/// What the command line says.
struct Arguments {
    target: Target,
    depth: usize,
    threads: usize,
    parts: Option<usize>,
    runs: usize,
}

fn arguments() -> Result<Arguments, Box<dyn std::error::Error>> {
    let (mut isa, mut depth, mut threads, mut parts, mut runs) = (None, 50, 1, None, 1);
    let (mut caches, mut packing) = (CacheSizes::default(), false);
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--isa" => isa = Some(value),
            "--depth" => depth = value.parse()?,
            "--threads" => threads = value.parse()?,
            "--parts" => parts = Some(value.parse()?),
            "--runs" => runs = value.parse()?,
            "--packing" => packing = value == "yes",
            "--caches" => {
                let kib: Vec<usize> = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                let [l1d, l2, l3] = kib[..] else { return Err("--caches takes L1,L2,L3".into()) };
                caches = CacheSizes { l1d: l1d << 10, l2: l2 << 10, l2_cores: 1, l3: l3 << 10 };
            }
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    let target = Target { isa: Isa::select(isa.as_deref())?, caches, packing };
    Ok(Arguments { target, depth, threads, parts, runs })
}

/// Runs a layer from `input` to `output`, or from and to the small buffers of the classifier.
fn run(
    layer: &Layer,
    parallel: &dyn Parallel,
    [input, output, residual]: &mut [Vec<i8>; 3],
    scratch: &mut [u8],
    (average, logits): (&mut [i16], &mut [f32]),
) -> Result<(), KernelError> {
    match layer {
        Layer::Convolution(convolution, with_residual) => {
            let shape = convolution.shape();
            let output = &mut output[..shape.output_len()];
            let residual = with_residual.then(|| &residual[..output.len()]);
            convolution.run(parallel, &input[..shape.input_len()], residual, output, scratch)
        }
        Layer::MaxPool(pool) => pool.run(parallel, &input[..112 * 112 * 64], &mut output[..56 * 56 * 64]),
        Layer::Average(layer) => layer.run(parallel, &input[..7 * 7 * 2048], average),
        Layer::Linear(linear) => linear.run(parallel, average, logits),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { target, depth, threads, parts, runs } = arguments()?;
    let isa = target.isa;
    let counted = parts.map(|threads| Parts { threads, mark: AtomicUsize::new(OUTSIDE) });
    let threads = parts.unwrap_or(threads);
    let threaded = Threads(threads);
    let parallel: &dyn Parallel = match &counted {
        Some(parts) => parts,
        None if threads > 1 => &threaded,
        None => &Sequential,
    };
    let layers = network(target, depth)?;
    let random = &mut Random::new(2);
    let largest = 112 * 112 * 64;
    let mut buffers = [random.activations(largest), random.activations(largest), random.activations(largest)];
    // What a program does that is compiled for the loop: no inference decides how a layer is cut.
    let scratch_len = |(_, layer): &(String, Layer)| match layer {
        Layer::Convolution(convolution, _) => convolution.scratch_len(threads),
        _ => 0,
    };
    let mut scratch = vec![0; layers.iter().map(scratch_len).max().unwrap_or(0)];
    let mut average = vec![0i16; 2048];
    let mut logits = vec![0f32; 1000];
    let mut rows = Vec::new();
    // A mark starts the model of the caches.
    mark(OUTSIDE);
    let all = (0..runs).flat_map(|run| layers.iter().enumerate().map(move |layer| (run, layer)));
    for (number, (index, (name, layer))) in all {
        let last = number + 1 == runs;
        let start = Instant::now();
        if last {
            if let Some(parts) = &counted {
                parts.mark.store(index, Ordering::Relaxed);
            }
            mark(index);
        }
        run(layer, parallel, &mut buffers, &mut scratch, (&mut average, &mut logits))?;
        if last {
            mark(OUTSIDE);
            rows.push((name, layer, start.elapsed()));
        }
        buffers.rotate_left(1);
    }
    for (index, (name, layer, time)) in rows.iter().enumerate() {
        let (kernel, macs) = match layer {
            Layer::Convolution(convolution, _) => (convolution.kernel(), convolution.shape().macs()),
            Layer::Linear(linear) => (isa.name(), (linear.inputs() * linear.outputs()) as u64),
            _ => (isa.name(), 0),
        };
        println!("{index}\t{name}\t{kernel}\t{macs}\t{}", time.as_micros());
    }
    let total: u128 = rows.iter().map(|row| row.2.as_micros()).sum();
    eprintln!("ResNet-{depth}, {isa}, {threads} threads: {:.1} ms", total as f64 / 1000.0);
    Ok(())
}
