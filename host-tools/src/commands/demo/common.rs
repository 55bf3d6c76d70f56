//! What the demonstrations have in common: files, frames, and where the service's come from.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use resight_base::console::{OutputError, print_line};
use resight_imaging::RgbImage;
use serde_json::Value;

use crate::commands::Bars;

/// Frames per second of the clip.
pub(super) const RATE: usize = 15;
/// Of the frames that calibrate and of those that evaluate, one in so many.
pub(super) const EVERY: usize = 6;
const JPEG_QUALITY: u8 = 88;

/// Where the page is, if that is free.
const PORT: u16 = 8600;

/// Loopback, at the usual port or at any that is free.
pub(super) fn free_address() -> Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(PORT).or_else(|_| bind(0)).context("no port of 127.0.0.1 is free for the page")?;
    listener.local_addr().context("no port of 127.0.0.1 is free for the page")
}

/// The file of a camera's clip.
pub(super) fn clip_name(camera: u32) -> String {
    if camera == 0 { "clip.mjpeg".to_owned() } else { format!("clip{}.mjpeg", camera + 1) }
}

/// Where frames come from: `[source]`, or a `[[camera]]` for each of several.
pub(super) fn sources(device: Option<&str>, cameras: u32) -> String {
    let clip = |camera: u32| {
        format!("kind = \"mjpeg\"\npath = \"{}\"\nrepeat = true\nrate = {RATE}.0", clip_name(camera))
    };
    let of = |camera: u32| {
        format!("[[camera]]\nname = \"camera-{}\"\n[camera.source]\n{}", camera + 1, clip(camera))
    };
    match device {
        Some(device) => format!("[source]\nkind = \"camera\"\ndevice = {}", Value::from(device)),
        None if cameras == 1 => format!("[source]\n{}", clip(0)),
        None => {
            let all: Vec<String> = (0..cameras).map(of).collect();
            format!(
                "# They share the network. Each rule below is one for each of them.\n{}",
                all.join("\n\n")
            )
        }
    }
}

/// What the next part is about.
pub(super) fn heading(text: &str) -> Result<(), OutputError> {
    print_line(format_args!("\n== {text}"))
}

/// The command that does the same.
pub(super) fn announce(command: &str) -> Result<(), OutputError> {
    print_line(format_args!("$ {command}"))
}

/// Writes a file.
pub(super) fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("{}: cannot write", path.display()))
}

/// A frame as a camera codes it.
pub(super) fn jpeg(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .encode_image(image)
        .context("a frame cannot be coded")?;
    Ok(bytes)
}

/// Frames one after another, as an MJPEG file.
pub(super) fn write_frames(
    path: &Path,
    count: usize,
    frame: impl Fn(usize) -> RgbImage + Sync,
) -> Result<()> {
    let bars = Bars::new();
    let frames: Vec<Vec<u8>> = (0..count)
        .into_par_iter()
        .map(|index| {
            let frame = jpeg(&frame(index));
            bars.update("clip", index, count);
            frame
        })
        .collect::<Result<_>>()?;
    bars.finish();
    let context = || format!("{}: cannot write", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(context)?);
    for frame in frames {
        file.write_all(&frame).with_context(context)?;
    }
    file.flush().with_context(context)
}
