//! `[source]`: where frames come from.

use std::path::Path;

use toml::de::DeValue;

use super::reader::{Reader, Section, integer, number, text};
use resight_network::PixelFormat;

/// Where frames come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceConfig {
    pub(crate) kind: SourceKind,
    /// A file, folder, glob or FIFO; `-` is standard input.
    pub(crate) path: String,
    /// Whether a file or a folder starts again at its end.
    pub(crate) repeat: bool,
    /// Frames per second of a file or a folder; without it each waits for the one before.
    pub(crate) rate: Option<f64>,
}

/// How frames are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum SourceKind {
    Images,
    Mjpeg,
    Y4m,
    Raw { format: PixelFormat, width: u32, height: u32, stride: u32 },
}

impl SourceConfig {
    /// Whether it may be missing at the start and come later.
    pub(crate) fn may_come_later(&self) -> bool {
        false
    }
}

impl<'i> Reader<'i> {
    pub(super) fn source(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<SourceConfig> {
        let kinds = ["images", "mjpeg", "y4m", "raw"];
        let kind =
            self.required(&mut section, "kind", "\"images\", \"mjpeg\", \"y4m\" or \"raw\"", |value| {
                kinds.into_iter().find(|kind| Some(*kind) == value.as_str())
            });
        let expected = "a file, folder, glob or FIFO, or \"-\" for standard input";
        let path = self.required(&mut section, "path", expected, text);
        let repeat =
            self.optional(&mut section, "repeat", "true or false", DeValue::as_bool).unwrap_or(false);
        let rate = self.optional(&mut section, "rate", "frames per second, 0.01 to 1000", |value| {
            number(value).filter(|rate| (0.01..=1000.0).contains(rate))
        });
        let kind = if kind == Some("raw") {
            let format =
                self.required(&mut section, "format", "\"i420\", \"nv12\", \"rgb24\" or \"yuyv\"", |value| {
                    PixelFormat::from_name(value.as_str()?)
                });
            let side = "a whole number of pixels from 1 to 16384";
            let pixels = |value: &DeValue<'_>| {
                integer(value).filter(|side| (1..=16384).contains(side)).map(|side| side as u32)
            };
            let width = self.required(&mut section, "width", side, pixels);
            let height = self.required(&mut section, "height", side, pixels);
            let row = width.zip(format).map_or(1, |(width, format)| format.row_bytes(width));
            let expected = format!("bytes of a row of the first plane, {row} to 131072");
            let stride = self.optional(&mut section, "stride", &expected, |value| {
                integer(value).filter(|stride| (i64::from(row)..=131_072).contains(stride)).map(|s| s as u32)
            });
            format.zip(width).zip(height).map(|((format, width), height)| SourceKind::Raw {
                format,
                width,
                height,
                stride: stride.unwrap_or(row),
            })
        } else {
            match kind {
                Some("images") => Some(SourceKind::Images),
                Some("mjpeg") => Some(SourceKind::Mjpeg),
                Some("y4m") => Some(SourceKind::Y4m),
                _ => None,
            }
        };
        if kind.is_some() {
            self.finish(&section);
        }
        let (kind, path) = (kind?, path?);
        if path == "-" {
            if repeat || rate.is_some() || kind == SourceKind::Images {
                let cause = "standard input has neither images, repeat nor rate; expected a file or a folder";
                self.mistake(&section.span, &section.key("path"), cause);
            }
            return Some(SourceConfig { kind, path, repeat, rate });
        }
        let path = folder.join(path).to_string_lossy().into_owned();
        Some(SourceConfig { kind, path, repeat, rate })
    }
}
