//! Preprocesses a frame of 640 x 480 pixels in each camera format for a network of 224 x 224.
//!
//! For counting guest instructions under QEMU (`cross/measure/count_preprocessing`): each format is
//! preceded by the mark that the plugin in `cross/measure/counter` listens to. Elsewhere the mark is a
//! harmless system call, and the times are printed instead.

#![allow(clippy::print_stdout, reason = "an example prints what it measures")]

use std::ffi::{c_int, c_uint};
use std::time::Instant;

use resight_imaging::{Colours, ImageView, ImagingError, PixelFormat, Preprocessing, Preprocessor};

unsafe extern "C" {
    /// From the C library: std has no name for it.
    fn getpriority(which: c_int, who: c_uint) -> c_int;
}

fn mark(id: usize) {
    // SAFETY: takes two integers, touches no memory.
    unsafe { getpriority(0x4d41_524b, id as c_uint) };
}

fn main() -> Result<(), ImagingError> {
    let size = [480, 640];
    let bayer = ["rggb8", "rggb10", "rggb10p"].into_iter().filter_map(PixelFormat::from_name);
    let formats = PixelFormat::NAMED.into_iter().map(|(_, format)| format).chain(bayer);
    let mut preprocessor = Preprocessor::new(&Preprocessing::default())?;
    let mut input = vec![0; preprocessor.input_len()];
    for (id, format) in formats.enumerate() {
        let stride = format.row_bytes(size[1]);
        let length = format.frame_bytes(size[0], stride);
        let frame: Vec<u8> = (0..length).map(|index| (index * index / 977 % 251) as u8).collect();
        let image = ImageView::new(&frame, format, Colours::default(), size, stride)?;
        // Weights and buffers are made by the first frame.
        preprocessor.quantise(&image, &mut input)?;
        mark(id);
        let start = Instant::now();
        preprocessor.quantise(&image, &mut input)?;
        let elapsed = start.elapsed();
        mark(65536);
        println!("{id}\t{}\t{:.3} ms", format.name(), elapsed.as_secs_f64() * 1e3);
    }
    Ok(())
}
