//! `[source]`: where frames come from.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Reader, Section, integer, number, text};
use resight_imaging::PixelFormat;

use crate::camera::{CameraConfig, Prescribed, Setting};
use crate::source::{CommandConfig, MAX_FRAME, SourceConfig, SourceKind, StreamFormat};

impl<'i> Reader<'i> {
    pub(super) fn source(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<SourceConfig> {
        let kinds = ["camera", "command", "images", "mjpeg", "y4m", "raw"];
        let expected = "\"camera\", \"command\", \"images\", \"mjpeg\", \"y4m\" or \"raw\"";
        let kind = self.required(&mut section, "kind", expected, |value| {
            kinds.into_iter().find(|kind| Some(*kind) == value.as_str())
        });
        if kind == Some("camera") {
            return self.camera(section);
        }
        if kind == Some("command") {
            return self.command(section, folder);
        }
        let expected = "a file, folder, glob or FIFO, or \"-\" for standard input";
        let span = section.entries.iter().find(|(name, ..)| *name == "path").map(|entry| entry.1.span());
        let path = self.required(&mut section, "path", expected, text);
        if let Some(cause) = path.as_deref().and_then(over_the_network) {
            self.mistake(&span.unwrap_or_default(), &section.key("path"), cause);
            return None;
        }
        let repeat =
            self.optional(&mut section, "repeat", "true or false", DeValue::as_bool).unwrap_or(false);
        let rate = self.optional(&mut section, "rate", "frames per second, 0.01 to 1000", |value| {
            number(value).filter(|rate| (0.01..=1000.0).contains(rate))
        });
        let kind = match kind {
            Some("images") => {
                let watch = self.optional(&mut section, "watch", "true or false", DeValue::as_bool);
                let watch = watch.unwrap_or(false);
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
        let names: Vec<&str> = PixelFormat::NAMED.iter().map(|(name, _)| *name).collect();
        let expected =
            format!("one of {} or a Bayer format such as rggb8, bggr10p or gbrg16", names.join(", "));
        let format =
            self.required(section, "format", &expected, |value| PixelFormat::from_name(value.as_str()?));
        let width = self.required(section, "width", SIDE, pixels);
        let height = self.required(section, "height", SIDE, pixels);
        let row = width.zip(format).map_or(1, |(width, format)| format.row_bytes(width));
        let expected = format!("bytes of a row of the first plane, {row} to 131072");
        let stride = self.optional(section, "stride", &expected, |value| {
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
        let expected = "a program and what it is given, each a text of its own, without a shell: such as \
            [\"ffmpeg\", \"-i\", \"rtsp://10.0.0.7/stream1\", …]";
        let arguments = self.required(&mut section, "command", expected, |value| {
            let text = |item: &Spanned<DeValue<'_>>| {
                item.get_ref().as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
            };
            let list = value.as_array()?.iter().map(text).collect::<Option<Vec<_>>>()?;
            let has_program = list.first().is_some_and(|program| !program.trim().is_empty());
            (has_program && list.len() <= MOST_ARGUMENTS).then_some(list)
        });
        let streams = ["mjpeg", "y4m", "raw"];
        let expected = "how it writes frames: \"mjpeg\", \"y4m\" or \"raw\"";
        let stream = self.required(&mut section, "stream", expected, |value| {
            streams.into_iter().find(|stream| Some(*stream) == value.as_str())
        });
        let silence = self.duration(&mut section, "silent_ms", 1000).unwrap_or(SILENCE);
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
        let expected = "\"auto\" or a device such as \"/dev/video0\" or one in /dev/v4l/by-id";
        let device = self.required(&mut section, "device", expected, |value| {
            text(value)
                .filter(|device| *device == "auto" || device.starts_with('/') && !device.contains('\0'))
        });
        let expected = "a format such as \"yuyv\", \"nv12\" or \"mjpeg\", or its code in V4L2";
        let format = self.optional(&mut section, "format", expected, |value| {
            text(value).filter(|name| crate::camera::is_format(name))
        });
        let width = self.optional(&mut section, "width", SIDE, pixels);
        let height = self.optional(&mut section, "height", SIDE, pixels);
        let rate = self.optional(&mut section, "rate", "frames per second, 0.01 to 1000", |value| {
            number(value).filter(|rate| (0.01..=1000.0).contains(rate))
        });
        let expected = "a table of controls, each a whole number, true, false or an item of a menu";
        let controls = self.optional(&mut section, "controls", expected, |value| {
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

const SIDE: &str = "a whole number of pixels from 1 to 16384";

fn pixels(value: &DeValue<'_>) -> Option<u32> {
    integer(value).filter(|side| (1..=16384).contains(side)).map(|side| side as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(source: &str) -> Result<SourceConfig, String> {
        let text = format!("[model]\nfile = \"m\"\n[source]\nkind = \"camera\"\n{source}");
        let config = Config::parse(&text, Path::new(""));
        config
            .map(|config| config.cameras[0].source.clone())
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
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
        let found = parse("device = \"rtsp://10.0.0.7/\"").unwrap_err();
        assert!(found.starts_with("5: source.device: an address in the network"), "{found}");
    }

    #[test]
    fn a_command_is_a_list_and_says_how_it_writes_frames() {
        let parse = |rest: &str| {
            let text = format!("[model]\nfile = \"m\"\n[source]\nkind = \"command\"\n{rest}");
            let config = Config::parse(&text, Path::new("/etc/resight"));
            config.map(|config| config.cameras[0].source.clone()).map_err(|mistakes| mistakes[0].to_string())
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
            ("command = [\"a\"]", "3: source.stream: missing; expected how it writes frames"),
            ("command = [\"a\"]\nstream = \"raw\"", "3: source.format: missing"),
            ("command = [\"a\"]\nstream = \"y4m\"\nsilent_ms = 5", "7: source.silent_ms: expected milli"),
            ("command = [\"a\"]\nstream = \"y4m\"\npath = \"x\"", "7: source.path: unknown key"),
        ] {
            let found = parse(rest).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn frames_that_cannot_be_read_are_refused() {
        let parse = |rest: &str| {
            let text = format!("[model]\nfile = \"m\"\n[source]\nkind = \"raw\"\npath = \"-\"\n{rest}");
            Config::parse(&text, Path::new("")).map_err(|mistakes| mistakes[0].to_string())
        };
        parse("format = \"bggr10p\"\nwidth = 4096\nheight = 3072").unwrap();
        let large = parse("format = \"rgb24\"\nwidth = 16384\nheight = 16384").unwrap_err();
        assert!(large.starts_with("3: source.height: expected frames of up to 64 MiB"), "{large}");
        let unknown = parse("format = \"rgb32\"\nwidth = 4\nheight = 4").unwrap_err();
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
            let found = parse(text).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
