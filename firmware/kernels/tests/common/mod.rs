//! What the kernel tests share: random layers, a plain reference, guarded buffers, threads.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::Write as _;
use std::ops::Deref;

pub use resight_fixtures::Random;
use resight_kernels::arithmetic::quantise_multipliers;
use resight_kernels::{
    Convolution, ConvolutionParameters, ConvolutionShape, Isa, Parallel, Sequential, Strided, StridedMut,
};

/// How the values of a case are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Uniform.
    Uniform,
    /// Only the ends of the ranges: the largest sums there are.
    Extreme,
    /// As `Uniform`, with multipliers so large that nearly every output saturates.
    Saturating,
}

/// A layer and all of its data.
pub struct Case {
    pub shape: ConvolutionShape,
    pub weights: Vec<i8>,
    pub bias: Vec<i32>,
    pub multiplier: Vec<i32>,
    pub shift: u32,
    pub residual_multiplier: Option<i32>,
    pub padding_value: Vec<i8>,
    pub input: Vec<i8>,
    pub residual: Option<Vec<i8>>,
}

impl Case {
    pub fn new(shape: &ConvolutionShape, values: Values, residual: bool, seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let channels = shape.output_channels;
        let mut weights = random.weights(shape.weights_len());
        let mut input = random.activations(shape.input_len());
        let mut padding_value = random.activations(shape.input[2]);
        if values == Values::Extreme {
            // One sign per channel, so that sums do not cancel.
            for row in weights.chunks_mut(shape.depth()) {
                let extreme = if random.below(2) == 0 { -127 } else { 127 };
                row.fill(extreme);
            }
            let extreme = if random.below(2) == 0 { i8::MIN } else { i8::MAX };
            input.fill(extreme);
            padding_value.fill(extreme);
        } else if random.below(2) == 0 {
            let end = if random.below(2) == 0 { i8::MIN } else { i8::MAX };
            padding_value.fill(end);
        }
        let spread = (shape.depth() as f64).sqrt() * 73.0 * 73.0;
        let gain = if values == Values::Saturating { 4000.0 } else { 60.0 };
        let real: Vec<f64> = (0..channels)
            .map(|_| (gain / spread * 10f64.powf(random.unit() * 2.0 - 1.5)).min(100.0))
            .collect();
        let (shift, multiplier) = quantise_multipliers(&real).unwrap();
        let bias = (0..channels).map(|_| ((random.unit() - 0.5) * 4.0 * spread) as i32).collect();
        let residual_multiplier = residual.then(|| match random.below(4) {
            0 => 32767,
            1 => 0,
            _ => random.below(1024) as i32,
        });
        // One pixel that counts for all, every fourth time.
        let pixels = if random.below(4) == 0 { 1 } else { shape.output_len() / shape.output_channels };
        let residual = residual.then(|| random.activations(pixels * shape.output_channels));
        Self {
            shape: shape.clone(),
            weights,
            bias,
            multiplier,
            shift,
            residual_multiplier,
            padding_value,
            input,
            residual,
        }
    }

    pub fn parameters(&self) -> ConvolutionParameters<'_> {
        ConvolutionParameters {
            shape: self.shape.clone(),
            weights: &self.weights,
            bias: &self.bias,
            multiplier: &self.multiplier,
            shift: self.shift,
            residual_multiplier: self.residual_multiplier,
            padding_value: &self.padding_value,
        }
    }

    /// The formula of the module `arithmetic` in 64-bit integers, for one output pixel.
    pub fn plain_pixel(&self, pixel: usize) -> Vec<i8> {
        let s = &self.shape;
        let [_, output_width, channels] = s.output();
        let [height, width, input_channels] = s.input;
        let (oy, ox) = (pixel / output_width, pixel % output_width);
        let depth = s.group_channels();
        let group_outputs = s.output_channels / s.groups;
        let mut output = Vec::new();
        for o in 0..channels {
            let mut sum = i64::from(self.bias[o]);
            let group = o / group_outputs;
            for ky in 0..s.kernel[0] {
                for kx in 0..s.kernel[1] {
                    let y = (oy * s.stride[0] + ky * s.dilation[0]) as i64 - s.padding[0] as i64;
                    let x = (ox * s.stride[1] + kx * s.dilation[1]) as i64 - s.padding[1] as i64;
                    let inside = (0..height as i64).contains(&y) && (0..width as i64).contains(&x);
                    let from = if inside {
                        &self.input[(y as usize * width + x as usize) * input_channels..]
                    } else {
                        &self.padding_value[..]
                    };
                    let from = &from[group * depth..][..depth];
                    let start = ((o * s.kernel[0] + ky) * s.kernel[1] + kx) * depth;
                    let dot: i64 = from
                        .iter()
                        .zip(&self.weights[start..start + depth])
                        .map(|(&a, &w)| i64::from(a) * i64::from(w))
                        .sum();
                    sum += dot;
                }
            }
            let scaled = i128::from(sum << self.shift) * i128::from(self.multiplier[o]);
            let mut t = scaled.div_euclid(1 << 31) as i64;
            if let (Some(multiplier), Some(residual)) = (self.residual_multiplier, &self.residual) {
                t += i64::from(multiplier) * i64::from(residual[(pixel * channels + o) % residual.len()]);
            }
            output.push((t + 128).div_euclid(256).clamp(-128, 127) as i8);
        }
        output
    }

    pub fn pixels(&self) -> usize {
        self.shape.output()[0] * self.shape.output()[1]
    }

    pub fn plain(&self) -> Vec<i8> {
        (0..self.pixels()).flat_map(|pixel| self.plain_pixel(pixel)).collect()
    }

    /// Runs a kernel with every buffer against unreadable memory: on `side` 0 the buffers end
    /// at it, on `side` 1 they start behind it.
    pub fn run(&self, isa: Isa, parallel: &dyn Parallel, side: usize) -> Vec<i8> {
        let convolution = Convolution::new(isa, &self.parameters())
            .unwrap_or_else(|error| panic!("{isa}: {error}: {:?}", self.shape));
        self.run_packed(&convolution, parallel, side)
    }

    /// As [`run`](Self::run), with a kernel made from [`parameters`](Self::parameters).
    pub fn run_packed(&self, convolution: &Convolution, parallel: &dyn Parallel, side: usize) -> Vec<i8> {
        let input = Guarded::new(&self.input, side);
        let residual = self.residual.as_ref().map(|residual| Guarded::new(residual, side));
        let mut output = Guarded::new(&vec![85; self.shape.output_len()], side);
        let scratch_len = convolution.scratch_len(parallel.threads());
        let mut scratch = Guarded::new(&vec![0xa5u8; scratch_len], side);
        convolution.run(parallel, &input, residual.as_deref(), &mut output, &mut scratch).unwrap();
        output.to_vec()
    }

    /// As [`run`](Self::run), where input and output are channels of images that have more, next to the
    /// unreadable memory. The others must stay.
    pub fn run_strided(&self, isa: Isa, parallel: &dyn Parallel, side: usize, more: usize) -> Vec<i8> {
        let convolution = Convolution::new(isa, &self.parameters()).unwrap();
        let first = if side == 0 { more } else { 0 };
        let (inputs, outputs) = (self.shape.input[2], self.shape.output_channels);
        let widen = |pixels: &[i8], channels: usize| -> Vec<i8> {
            let wide = |pixel: &[i8]| [vec![85; first], pixel.to_vec(), vec![85; more - first]].concat();
            pixels.chunks_exact(channels).flat_map(wide).collect()
        };
        let input = Guarded::new(&widen(&self.input, inputs), side);
        let residual = self.residual.as_ref().map(|residual| Guarded::new(residual, side));
        let mut output = Guarded::new(&vec![85; self.pixels() * (outputs + more)], side);
        let mut scratch = Guarded::new(&vec![0xa5u8; convolution.scratch_len(parallel.threads())], side);
        let read = Strided::new(&input, first, inputs, inputs + more).unwrap();
        let written = StridedMut::new(&mut output, first, outputs, outputs + more).unwrap();
        convolution.run_strided(parallel, read, residual.as_deref(), written, &mut scratch).unwrap();
        let found: Vec<i8> = output
            .chunks_exact(outputs + more)
            .flat_map(|pixel| &pixel[first..][..outputs])
            .copied()
            .collect();
        assert!(widen(&found, outputs) == *output, "{isa}: other channels were written, {:?}", self.shape);
        found
    }

    /// Demands that every available kernel gives exactly the plain reference.
    pub fn check_all(&self, seed: u64) {
        let expected = self.plain();
        for isa in available() {
            for side in 0..2 {
                let found = self.run(isa, &Sequential, side);
                compare(isa, self, &expected, &found, seed);
                let found = self.run_strided(isa, &Sequential, side, 1 + seed as usize % 40);
                compare(isa, self, &expected, &found, seed);
            }
        }
    }
}

pub fn compare(isa: Isa, case: &Case, expected: &[i8], found: &[i8], seed: u64) {
    if let Some(index) = (0..expected.len()).find(|&i| expected[i] != found[i]) {
        let channels = case.shape.output_channels;
        let wrong = (0..expected.len()).filter(|&i| expected[i] != found[i]).count();
        panic!(
            "{isa}: pixel {}, channel {}: expected {}, found {} ({wrong} of {} wrong; seed {seed}, shift {}, \
             residual {:?}, {:?})",
            index / channels,
            index % channels,
            expected[index],
            found[index],
            expected.len(),
            case.shift,
            case.residual_multiplier,
            case.shape,
        );
    }
}

/// The instruction sets of this CPU; the others are named by [`report_skipped`].
pub fn available() -> Vec<Isa> {
    Isa::available().collect()
}

/// Names what this CPU cannot run, once per process and past the test harness, which would
/// keep the output of a test that passes.
pub fn report_skipped() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
            // Not eprintln, which the harness would keep.
            let _ = writeln!(std::io::stderr(), "skipped: {isa} (not available on this CPU)");
        }
    });
}

/// A convolution with the same numbers on both axes.
pub fn square(
    size: usize,
    input_channels: usize,
    output_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> ConvolutionShape {
    ConvolutionShape {
        input: [size, size, input_channels],
        output_channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 4],
        dilation: [1; 2],
        groups: 1,
    }
}

/// Every distinct convolution of ResNet-18, 34, 50 (v1 and v1.5), 101 and 152, at 224 x 224,
/// as `(shape, residual)`.
pub fn resnet_layers() -> Vec<(ConvolutionShape, bool)> {
    let mut layers = vec![(square(224, 3, 64, 7, 2, 3), false)];
    let mut add = |shape: ConvolutionShape, residual: bool| {
        if !layers.contains(&(shape.clone(), residual)) {
            layers.push((shape, residual));
        }
    };
    // Basic blocks.
    for (stage, channels) in [64, 128, 256, 512].into_iter().enumerate() {
        let size = 56 >> stage;
        if stage > 0 {
            add(square(size * 2, channels / 2, channels, 3, 2, 1), false);
            add(square(size * 2, channels / 2, channels, 1, 2, 0), false);
        }
        add(square(size, channels, channels, 3, 1, 1), false);
        add(square(size, channels, channels, 3, 1, 1), true);
    }
    // Bottlenecks.
    let mut inputs = 64;
    for (stage, channels) in [64, 128, 256, 512].into_iter().enumerate() {
        let size = 56 >> stage;
        let (before, stride) = if stage > 0 { (size * 2, 2) } else { (size, 1) };
        add(square(before, inputs, channels, 1, 1, 0), false);
        add(square(before, inputs, channels, 1, stride, 0), false);
        add(square(before, channels, channels, 3, stride, 1), false);
        add(square(before, inputs, channels * 4, 1, stride, 0), false);
        add(square(size, channels, channels * 4, 1, 1, 0), true);
        add(square(size, channels * 4, channels, 1, 1, 0), false);
        add(square(size, channels, channels, 3, 1, 1), false);
        inputs = channels * 4;
    }
    layers
}

/// Spreads parts over threads of its own; calls each part twice when told so, which an
/// implementation of [`Parallel`] may.
pub struct Threads {
    pub threads: usize,
    pub twice: bool,
}

impl Parallel for Threads {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for thread in 0..self.threads {
                scope.spawn(move || {
                    for part in 0..parts {
                        if self.twice || part % self.threads == thread {
                            task(part);
                        }
                    }
                });
            }
        });
    }
}

/// A slice at an odd place of a larger buffer, between canaries. What is read outside of the
/// slice changes with the canary, what is written there is found on drop.
pub struct Embedded<T: Copy + PartialEq> {
    all: Vec<T>,
    canary: T,
    start: usize,
    len: usize,
}

impl<T: Copy + PartialEq> Embedded<T> {
    /// More than any vector or block reaches.
    const MARGIN: usize = 256;

    pub fn new(data: &[T], offset: usize, canary: T) -> Self {
        let start = Self::MARGIN + offset;
        let mut all = vec![canary; start];
        all.extend_from_slice(data);
        all.resize(all.len() + Self::MARGIN, canary);
        Self { all, canary, start, len: data.len() }
    }

    pub fn get_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..self.start + self.len]
    }

    /// The canary right behind the slice.
    pub fn margin_mut(&mut self) -> &mut T {
        &mut self.all[self.start + self.len]
    }
}

impl<T: Copy + PartialEq> Deref for Embedded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all[self.start..self.start + self.len]
    }
}

impl<T: Copy + PartialEq> Drop for Embedded<T> {
    fn drop(&mut self) {
        let (before, rest) = self.all.split_at(self.start);
        let intact = before.iter().chain(&rest[self.len..]).all(|&value| value == self.canary);
        assert!(intact || std::thread::panicking(), "a kernel wrote outside of its buffer");
    }
}

// Miri has no page protection.
#[cfg(all(unix, not(miri)))]
mod memory {
    use std::ffi::{c_int, c_long, c_void};

    unsafe extern "C" {
        fn mmap(
            at: *mut c_void,
            len: usize,
            protection: c_int,
            flags: c_int,
            file: c_int,
            offset: c_long,
        ) -> *mut c_void;
        fn mprotect(at: *mut c_void, len: usize, protection: c_int) -> c_int;
        fn munmap(at: *mut c_void, len: usize) -> c_int;
    }

    /// Large enough for every page size in use.
    const PAGE: usize = 65536;

    /// A slice with unreadable memory on both sides, touching it on one, and canary bytes on
    /// the other.
    pub struct Guarded<T: Copy> {
        base: *mut u8,
        len: usize,
        start: *mut T,
        count: usize,
    }

    const CANARY: u8 = 0x5c;

    impl<T: Copy> Guarded<T> {
        pub fn new(data: &[T], side: usize) -> Self {
            let bytes = size_of_val(data);
            let inner = bytes.next_multiple_of(PAGE).max(PAGE);
            let len = inner + 2 * PAGE;
            // SAFETY: a fresh anonymous private mapping; only its middle is made accessible.
            unsafe {
                let base = mmap(std::ptr::null_mut(), len, 0, 0x22, -1, 0).cast::<u8>();
                assert!(base as isize != -1, "no memory for a guarded buffer");
                let middle = base.add(PAGE);
                assert_eq!(mprotect(middle.cast(), inner, 3), 0);
                middle.write_bytes(CANARY, inner);
                let start = if side == 0 { middle.add(inner - bytes) } else { middle }.cast::<T>();
                start.copy_from_nonoverlapping(data.as_ptr(), data.len());
                Self { base, len, start, count: data.len() }
            }
        }
    }

    impl<T: Copy> Drop for Guarded<T> {
        fn drop(&mut self) {
            // SAFETY: the middle of the mapping is readable and no longer borrowed.
            unsafe {
                let middle = self.base.add(PAGE);
                let all = std::slice::from_raw_parts(middle, self.len - 2 * PAGE);
                let start = self.start.cast::<u8>().offset_from(middle) as usize;
                let end = start + self.count * size_of::<T>();
                let intact = all[..start].iter().chain(&all[end..]).all(|&byte| byte == CANARY);
                munmap(self.base.cast(), self.len);
                assert!(intact || std::thread::panicking(), "a kernel wrote outside of its buffer");
            }
        }
    }

    impl<T: Copy> std::ops::Deref for Guarded<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            // SAFETY: `count` initialised elements.
            unsafe { std::slice::from_raw_parts(self.start, self.count) }
        }
    }

    impl<T: Copy> std::ops::DerefMut for Guarded<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            // SAFETY: as in `deref`, and borrowed mutably.
            unsafe { std::slice::from_raw_parts_mut(self.start, self.count) }
        }
    }
}

/// Without page protection: what [`Embedded`] tests has to do.
#[cfg(any(not(unix), miri))]
mod memory {
    pub struct Guarded<T: Copy>(Vec<T>, usize);

    impl<T: Copy> Guarded<T> {
        pub fn new(data: &[T], _side: usize) -> Self {
            Self(data.to_vec(), data.len())
        }
    }

    impl<T: Copy> std::ops::Deref for Guarded<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0[..self.1]
        }
    }

    impl<T: Copy> std::ops::DerefMut for Guarded<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            &mut self.0[..self.1]
        }
    }
}

pub use memory::Guarded;
