//! Preprocesses a frame of 640 x 480 pixels in each camera format for a network of 224 x 224.
//!
//! For counting guest instructions under QEMU (`cross/measure/count_preprocessing`): each format is
//! preceded by the mark that the plugin in `cross/measure/counter` listens to. Elsewhere the mark is a
//! harmless system call, and the times are printed instead.
//!
//! Usage: `preprocess [THREADS]`: frames are cut for so many threads; each part is marked and runs in turn.

#![allow(clippy::print_stdout, reason = "an example prints what it measures")]

use std::env;
use std::ffi::{c_int, c_uint};
use std::time::Instant;

use resight_imaging::{Colours, ImageView, ImagingError, PixelFormat, Preprocessing, Preprocessor};
use resight_kernels::Parallel;

unsafe extern "C" {
    /// From the C library: std has no name for it.
    fn getpriority(which: c_int, who: c_uint) -> c_int;
}

fn mark(id: usize) {
    // SAFETY: takes two integers, touches no memory.
    unsafe { getpriority(0x4d41_524b, id as c_uint) };
}

/// What follows is not counted: this and all above.
const OUTSIDE: usize = 65536;

/// Cuts a frame for some threads and runs the parts in turn, each after a mark of its own.
struct Parts {
    threads: usize,
    format: usize,
}

impl Parallel for Parts {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        for part in 0..parts {
            mark((part + 1) << 8 | self.format);
            task(part);
        }
        mark(self.format);
    }
}

fn main() -> Result<(), ImagingError> {
    let size = [480, 640];
    let bayer = ["rggb8", "rggb10", "rggb10p"].into_iter().filter_map(PixelFormat::from_name);
    let formats = PixelFormat::NAMED.into_iter().map(|(_, format)| format).chain(bayer);
    let mut preprocessor = Preprocessor::new(&Preprocessing::default())?;
    let mut input = vec![0; preprocessor.input_len()];
    let threads = env::args().nth(1).and_then(|threads| threads.parse().ok()).unwrap_or(1);
    for (id, format) in formats.enumerate() {
        let parts = Parts { threads, format: id };
        let stride = format.row_bytes(size[1]);
        let length = format.frame_bytes(size[0], stride);
        let frame: Vec<u8> = (0..length).map(|index| (index * index / 977 % 251) as u8).collect();
        let image = ImageView::new(&frame, format, Colours::default(), size, stride)?;
        // Weights and buffers are made by the first frame.
        preprocessor.quantise_on(&Parts { threads, format: OUTSIDE }, &image, &mut input)?;
        mark(id);
        let start = Instant::now();
        preprocessor.quantise_on(&parts, &image, &mut input)?;
        let elapsed = start.elapsed();
        mark(OUTSIDE);
        println!("{id}\t{}\t{:.3} ms", format.name(), elapsed.as_secs_f64() * 1e3);
    }
    Ok(())
}
