//! `[source]`: where frames come from.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::key::{Expected, FRAME_RATE, Key, Table};
use super::reader::{Reader, Section, integer, number, text};
use resight_imaging::PixelFormat;

use crate::camera::{CameraConfig, Prescribed, Setting};
use crate::source::{CommandConfig, MAX_FRAME, SourceConfig, SourceKind, StreamFormat};

const KIND: Key = Key::set(
    "kind",
    "\"raw\"",
    Expected::OneOf(&["camera", "command", "images", "mjpeg", "y4m", "raw"]),
    "Where frames come from: \"camera\" (V4L2), \"command\" (a program, for CSI and network cameras), \"images\" (a \
     folder or a glob of PNG and JPEG files), \"mjpeg\" (JPEG frames back to back), \"y4m\", or \"raw\" (frames of the \
     format and size below).",
);
const PATH: Key = Key::set(
    "path",
    "\"-\"",
    Expected::Words("a file, folder, glob or FIFO, or \"-\" for standard input"),
    "A file, a folder, a glob or a FIFO; \"-\" is standard input. Neither \"camera\" nor \"command\" have it.",
);
const FORMAT: Key = Key::set(
    "format",
    "\"i420\"",
    Expected::Made(formats),
    "Only for \"raw\": the format of a pixel; grey10 to grey16 are thermal and infrared cameras. Of a sensor's mosaic its \
     order, bits, and \"p\" if packed as MIPI does, such as \"rggb8\", \"bggr10p\", \"grbg12\" or \"gbrg16\" (half the size \
     after demosaicing).",
);
const WIDTH: Key = Key::set("width", "640", SIDE, "Only for \"raw\": pixels of a row.");
const HEIGHT: Key = Key::set("height", "480", SIDE, "Only for \"raw\": rows.");
const STRIDE: Key = Key::shown(
    "stride",
    "640",
    Expected::Depends("bytes of a row of the first plane, {} to 131072", "1"),
    "Only for \"raw\": bytes of a row of the first plane, if rows are padded.",
);
const REPEAT: Key =
    Key::shown("repeat", "true", Expected::Boolean, "Only for files and folders: start again at the end.");
const RATE: Key = Key::shown(
    "rate",
    "10.0",
    FRAME_RATE,
    "Only for files and folders: frames per second. Without it each frame waits for the one before.",
);
const WATCH: Key = Key::shown(
    "watch",
    "true",
    Expected::Boolean,
    "Only for \"images\": take the pictures that the folder gets from now on, when they are whole: written to the end, \
     or renamed. Pictures come seldom, so raise stale_ms in [safety].",
);
const COMMAND: Key = Key::shown(
    "command",
    "[\"ffmpeg\", \"-loglevel\", \"error\", \"-fpsprobesize\", \"0\", \"-rtsp_transport\", \"tcp\",\n    \"-i\", \
     \"rtsp://10.0.0.7/stream1\", \"-an\", \"-vf\", \"scale=640:-2\", \"-pix_fmt\", \"yuv420p\", \"-f\", \"yuv4mpegpipe\", \"-\"]",
    Expected::Words(
        "a program and what it is given, each a text of its own, without a shell: such as [\"ffmpeg\", \"-i\", \
         \"rtsp://10.0.0.7/stream1\", …]",
    ),
    "Only for \"command\", instead of path: a program and what it is given, without a shell, which writes frames to its \
     standard output. It is started again when it ends, later and later, and ends with the service.",
);
const STREAM: Key = Key::shown(
    "stream",
    "\"y4m\"",
    Expected::OneOf(&["mjpeg", "y4m", "raw"]),
    "Only for \"command\": how it writes frames.",
);
const SILENT_MS: Key = Key::shown(
    "silent_ms",
    "30000",
    Expected::Milliseconds(1000),
    "Only for \"command\": it is started again when no frame came for so long.",
);
const DEVICE: Key = Key::shown(
    "device",
    "\"/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0\"",
    Expected::Words("\"auto\" or a device such as \"/dev/video0\" or one in /dev/v4l/by-id"),
    "Only for \"camera\", instead of path: a device, best by a name in /dev/v4l/by-id, which stays the same, or in \
     by-path where two cameras have one name; \"auto\" is the first camera that gives frames. See `resightd cameras`.",
);
const CAMERA_FORMAT: Key = Key::shown(
    "format",
    "\"yuyv\"",
    Expected::Words("a format such as \"yuyv\", \"nv12\" or \"mjpeg\", or its code in V4L2"),
    "For \"camera\": format, size and rate are chosen for the network and shown in the log where nothing is said; \
     formats are \"yuyv\", \"nv12\", \"mjpeg\" and so on, or codes of V4L2.",
);
const CAMERA_WIDTH: Key = Key::shown("width", "640", SIDE, "");
const CAMERA_HEIGHT: Key = Key::shown("height", "480", SIDE, "");
const CAMERA_RATE: Key = Key::shown("rate", "30.0", FRAME_RATE, "");

pub(super) const SOURCE: Table = Table::set(
    "[source]",
    "",
    &[
        KIND,
        PATH,
        FORMAT,
        WIDTH,
        HEIGHT,
        STRIDE,
        REPEAT,
        RATE,
        WATCH,
        COMMAND,
        STREAM,
        SILENT_MS,
        DEVICE,
        CAMERA_FORMAT,
        CAMERA_WIDTH,
        CAMERA_HEIGHT,
        CAMERA_RATE,
    ],
);

/// A table of controls.
const CONTROLS_OF_CAMERA: Key = Key::shown(
    "controls",
    "{}",
    Expected::Words("a table of controls, each a whole number, true, false or an item of a menu"),
    "",
);

pub(super) const CONTROLS: Table = Table {
    free: Some(""),
    ..Table::shown(
        "[source.controls]",
        "A camera's controls as `v4l2-ctl` spells them: whole numbers, true, false or items of menus.",
        &[
            Key::shown("auto_exposure", "\"Manual Mode\"", Expected::Words("a control"), ""),
            Key::shown("exposure_time_absolute", "100", Expected::Words("a control"), ""),
        ],
    )
};

/// What raw frames can be.
fn formats() -> String {
    let names: Vec<&str> = PixelFormat::NAMED.iter().map(|(name, _)| *name).collect();
    format!("one of {} or a Bayer format such as rggb8, bggr10p or gbrg16", names.join(", "))
}

fn frame_rate(value: &DeValue<'_>) -> Option<f64> {
    number(value).filter(|rate| (0.01..=1000.0).contains(rate))
}

impl<'i> Reader<'i> {
    pub(super) fn source(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<SourceConfig> {
        let kind = self.required_one_of(&mut section, &KIND);
        if kind == Some("camera") {
            return self.camera(section);
        }
        if kind == Some("command") {
            return self.command(section, folder);
        }
        let span = section.entries.iter().find(|(name, ..)| *name == "path").map(|entry| entry.1.span());
        let path = self.required(&mut section, &PATH, text);
        if let Some(cause) = path.as_deref().and_then(over_the_network) {
            self.mistake(&span.unwrap_or_default(), &section.key("path"), cause);
            return None;
        }
        let repeat = self.flag(&mut section, &REPEAT).unwrap_or(false);
        let rate = self.optional(&mut section, &RATE, frame_rate);
        let kind = match kind {
            Some("images") => {
                let watch = self.flag(&mut section, &WATCH).unwrap_or(false);
                if watch && (repeat || rate.is_some()) {
                    let cause =
                        "new pictures come at their own rate; expected neither repeat nor rate with it";
                    self.mistake(&section.span.clone(), &section.key("watch"), cause);
                }
                Some(SourceKind::Images { watch })
            }
            Some("mjpeg") => Some(SourceKind::Stream(StreamFormat::Mjpeg)),
            Some("y4m") => Some(SourceKind::Stream(StreamFormat::Y4m)),
            Some("raw") => self.raw(&mut section).map(SourceKind::Stream),
            _ => None,
        };
        if kind.is_some() {
            self.finish(&section);
        }
        let (kind, path) = (kind?, path?);
        if path == "-" {
            if repeat || rate.is_some() || matches!(kind, SourceKind::Images { .. }) {
                let cause = "standard input has neither images, repeat nor rate; expected a file or a folder";
                self.mistake(&section.span, &section.key("path"), cause);
            }
            return Some(SourceConfig { kind, path, repeat, rate });
        }
        let path = folder.join(path).to_string_lossy().into_owned();
        Some(SourceConfig { kind, path, repeat, rate })
    }

    /// The format and size of raw frames.
    fn raw(&mut self, section: &mut Section<'_, 'i>) -> Option<StreamFormat> {
        let format = self.required(section, &FORMAT, |value| PixelFormat::from_name(value.as_str()?));
        let width = self.required(section, &WIDTH, pixels);
        let height = self.required(section, &HEIGHT, pixels);
        let row = width.zip(format).map_or(1, |(width, format)| format.row_bytes(width));
        let stride = self.optional_within(section, &STRIDE, &row.to_string(), |value| {
            integer(value).filter(|stride| (i64::from(row)..=131_072).contains(stride)).map(|s| s as u32)
        });
        let stride = stride.unwrap_or(row);
        let ((format, width), height) = format.zip(width).zip(height)?;
        if format.frame_bytes(height, stride) > MAX_FRAME {
            let cause = format!("expected frames of up to {} MiB together with `width`", MAX_FRAME >> 20);
            self.mistake(&section.span.clone(), &section.key("height"), cause);
        }
        Some(StreamFormat::Raw { format, width, height, stride })
    }

    /// A program that writes frames; a relative path of it starts from the file's folder.
    fn command(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<SourceConfig> {
        let arguments = self.required(&mut section, &COMMAND, |value| {
            let text = |item: &Spanned<DeValue<'_>>| {
                item.get_ref().as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
            };
            let list = value.as_array()?.iter().map(text).collect::<Option<Vec<_>>>()?;
            let has_program = list.first().is_some_and(|program| !program.trim().is_empty());
            (has_program && list.len() <= MOST_ARGUMENTS).then_some(list)
        });
        let stream = self.required_one_of(&mut section, &STREAM);
        let silence = self.duration(&mut section, &SILENT_MS).unwrap_or(SILENCE);
        let format = match stream? {
            "mjpeg" => Some(StreamFormat::Mjpeg),
            "y4m" => Some(StreamFormat::Y4m),
            _ => self.raw(&mut section),
        };
        self.finish(&section);
        let (mut arguments, format) = (arguments?, format?);
        let program = arguments.first_mut()?;
        let name = Path::new(program.as_str()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if program.contains('/') {
            *program = folder.join(program.as_str()).to_string_lossy().into_owned();
        }
        let kind = SourceKind::Command(CommandConfig { arguments, format, silence });
        Some(SourceConfig { kind, path: name, repeat: false, rate: None })
    }

    fn camera(&mut self, mut section: Section<'_, 'i>) -> Option<SourceConfig> {
        let given = section.entries.iter().find(|(name, ..)| *name == "device");
        let given =
            given.and_then(|entry| Some((entry.1.span(), over_the_network(entry.1.get_ref().as_str()?)?)));
        if let Some((span, cause)) = given {
            self.mistake(&span, &section.key("device"), cause);
            return None;
        }
        let device = self.required(&mut section, &DEVICE, |value| {
            text(value)
                .filter(|device| *device == "auto" || device.starts_with('/') && !device.contains('\0'))
        });
        let format = self.optional(&mut section, &CAMERA_FORMAT, |value| {
            text(value).filter(|name| crate::camera::is_format(name))
        });
        let width = self.optional(&mut section, &CAMERA_WIDTH, pixels);
        let height = self.optional(&mut section, &CAMERA_HEIGHT, pixels);
        let rate = self.optional(&mut section, &CAMERA_RATE, frame_rate);
        let controls = self.optional(&mut section, &CONTROLS_OF_CAMERA, |value| {
            let read = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                let value = value.get_ref();
                let setting = value
                    .as_bool()
                    .map(Setting::Boolean)
                    .or_else(|| integer(value).map(Setting::Integer))
                    .or_else(|| text(value).map(Setting::Text))?;
                Some((name.get_ref().clone().into_owned(), setting))
            };
            value.as_table()?.iter().map(read).collect::<Option<Vec<_>>>()
        });
        self.finish(&section);
        let device = device?;
        let config = CameraConfig {
            device: device.clone(),
            prescribed: Prescribed { format, width, height, rate },
            controls: controls.unwrap_or_default(),
        };
        Some(SourceConfig { kind: SourceKind::Camera(config), path: device, repeat: false, rate: None })
    }
}

/// What to write instead of the address of a camera in the network; `None` if it is none. The address
/// itself may hold a password.
fn over_the_network(path: &str) -> Option<String> {
    let (scheme, _) = path.split_once("://")?;
    let decode = "`stream = \"y4m\"` and `command = [\"ffmpeg\", \"-loglevel\", \"error\", \"-fpsprobesize\", \"0\", \
        \"-i\", \"ADDRESS\", \"-an\", \"-vf\", \"scale=640:-2\", \"-pix_fmt\", \"yuv420p\", \"-f\", \"yuv4mpegpipe\", \"-\"]`";
    let how = match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => format!(
            "`stream = \"mjpeg\"` and `command = [\"curl\", \"-fsSN\", \"ADDRESS\"]`, or where it is no series of \
             JPEG pictures {decode}"
        ),
        "rtsp" | "rtsps" => decode.replace("\"-i\"", "\"-rtsp_transport\", \"tcp\", \"-i\""),
        "rtmp" | "rtp" | "udp" | "srt" | "tcp" => decode.to_owned(),
        _ => return None,
    };
    Some(format!(
        "an address in the network, not a file or a device; a program brings it in: write `kind = \"command\"`, {how}"
    ))
}

/// Without a frame for so long, a program is started again. Some cameras send a whole picture every ten
/// seconds only, and nothing can be decoded before.
const SILENCE: Duration = Duration::from_secs(30);

/// Most texts of a command.
const MOST_ARGUMENTS: usize = 1000;

const SIDE: Expected = Expected::Words("a whole number of pixels from 1 to 16384");

fn pixels(value: &DeValue<'_>) -> Option<u32> {
    integer(value).filter(|side| (1..=16384).contains(side)).map(|side| side as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::reader::Mistake;

    fn parse(source: &str) -> Result<SourceConfig, Vec<Mistake>> {
        let text = format!("[model]\nfile = \"m\"\n[source]\nkind = \"camera\"\n{source}");
        let config = Config::parse(&text, Path::new(""));
        config.map(|config| config.cameras[0].source.clone())
    }

    #[test]
    fn a_camera_needs_only_a_device() {
        let SourceConfig { kind: SourceKind::Camera(camera), path, rate, .. } =
            parse("device = \"auto\"").unwrap()
        else {
            panic!("no camera");
        };
        assert_eq!((camera.device.as_str(), path.as_str(), rate), ("auto", "auto", None));
        assert!(camera.controls.is_empty() && camera.prescribed == Prescribed::default());
    }

    #[test]
    fn a_camera_takes_formats_and_controls() {
        let text = "device = \"/dev/video0\"\nformat = \"YUYV\"\nwidth = 640\nheight = 480\nrate = 29.97\n\
                    [source.controls]\ngain = 0x10\nauto_exposure = \"Manual Mode\"\nfocus = false\n";
        let SourceKind::Camera(camera) = parse(text).unwrap().kind else { panic!("no camera") };
        assert_eq!(camera.prescribed.rate, Some(29.97));
        assert_eq!(camera.prescribed.format.as_deref(), Some("YUYV"));
        let find =
            |name: &str| camera.controls.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        assert_eq!(find("gain"), Some(&Setting::Integer(16)));
        assert_eq!(find("auto_exposure"), Some(&Setting::Text("Manual Mode".into())));
        assert_eq!(find("focus"), Some(&Setting::Boolean(false)));
    }

    #[test]
    fn an_address_in_the_network_is_answered_with_the_line_to_run() {
        let path = |kind: &str, path: &str| {
            let text = format!("[model]\nfile = \"m\"\n[source]\nkind = \"{kind}\"\npath = \"{path}\"\n");
            Config::parse(&text, Path::new("")).unwrap_err()[0].to_string()
        };
        let found = path("mjpeg", "rtsp://user:secret@10.0.0.7/stream1");
        assert!(found.starts_with("5: source.path: an address in the network, not a file"), "{found}");
        let expected = "write `kind = \"command\"`, `stream = \"y4m\"` and `command = [\"ffmpeg\", \"-loglevel\", \
            \"error\", \"-fpsprobesize\", \"0\", \"-rtsp_transport\", \"tcp\", \"-i\", \"ADDRESS\"";
        assert!(found.contains(expected) && !found.contains("secret"), "{found}");
        let found = path("mjpeg", "http://10.0.0.7:8080/video");
        let expected = "`stream = \"mjpeg\"` and `command = [\"curl\", \"-fsSN\", \"ADDRESS\"]`";
        assert!(found.contains(expected), "{found}");
        let found = parse("device = \"rtsp://10.0.0.7/\"").unwrap_err()[0].to_string();
        assert!(found.starts_with("5: source.device: an address in the network"), "{found}");
    }

    #[test]
    fn a_command_is_a_list_and_says_how_it_writes_frames() {
        let parse = |rest: &str| {
            let text = format!("[model]\nfile = \"m\"\n[source]\nkind = \"command\"\n{rest}");
            let config = Config::parse(&text, Path::new("/etc/resight"));
            config.map(|config| config.cameras[0].source.clone())
        };
        let found = parse("command = [\"./cam.sh\", \"\", \"rtsp://u:p@h/\"]\nstream = \"y4m\"").unwrap();
        let SourceKind::Command(command) = &found.kind else { panic!("{found:?}") };
        assert_eq!(command.arguments, ["/etc/resight/./cam.sh", "", "rtsp://u:p@h/"]);
        assert_eq!((command.format, command.silence), (StreamFormat::Y4m, SILENCE));
        assert_eq!(found.path, "cam.sh");
        let raw =
            "command = [\"rpicam-vid\"]\nstream = \"raw\"\nformat = \"i420\"\nwidth = 640\nheight = 480";
        let SourceKind::Command(command) = parse(raw).unwrap().kind else { panic!("no command") };
        assert!(matches!(command.format, StreamFormat::Raw { width: 640, height: 480, .. }));
        for (rest, expected) in [
            ("stream = \"y4m\"", "3: source.command: missing; expected a program and what it is given"),
            ("command = \"a b\"\nstream = \"y4m\"", "5: source.command: expected a program"),
            ("command = []\nstream = \"y4m\"", "5: source.command: expected a program"),
            ("command = [\"a\\u0000\"]\nstream = \"y4m\"", "5: source.command: expected a program"),
            ("command = [\"a\"]", "3: source.stream: missing; expected \"mjpeg\", \"y4m\" or \"raw\""),
            ("command = [\"a\"]\nstream = \"raw\"", "3: source.format: missing"),
            ("command = [\"a\"]\nstream = \"y4m\"\nsilent_ms = 5", "7: source.silent_ms: expected milli"),
            ("command = [\"a\"]\nstream = \"y4m\"\npath = \"x\"", "7: source.path: unknown key"),
        ] {
            let found = parse(rest).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn frames_that_cannot_be_read_are_refused() {
        let parse = |rest: &str| {
            let text = format!("[model]\nfile = \"m\"\n[source]\nkind = \"raw\"\npath = \"-\"\n{rest}");
            Config::parse(&text, Path::new(""))
        };
        parse("format = \"bggr10p\"\nwidth = 4096\nheight = 3072").unwrap();
        let large = parse("format = \"rgb24\"\nwidth = 16384\nheight = 16384").unwrap_err()[0].to_string();
        assert!(large.starts_with("3: source.height: expected frames of up to 64 MiB"), "{large}");
        let unknown = parse("format = \"rgb32\"\nwidth = 4\nheight = 4").unwrap_err()[0].to_string();
        assert!(unknown.starts_with("6: source.format: expected one of i420, i422, "), "{unknown}");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "3: source.device: missing"),
            ("device = \"video0\"", "5: source.device: expected \"auto\" or a device"),
            ("device = \"/a\\u0000\"", "5: source.device: expected"),
            ("device = \"auto\"\nformat = \"h264\"", "6: source.format: expected a format"),
            ("device = \"auto\"\nwidth = 0", "6: source.width: expected"),
            ("device = \"auto\"\nrate = 0", "6: source.rate: expected"),
            ("device = \"auto\"\npath = \"-\"", "6: source.path: unknown key"),
            ("device = \"auto\"\n[source.controls]\ngain = [1]", "6: source.controls: expected a table"),
        ] {
            let found = parse(text).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
