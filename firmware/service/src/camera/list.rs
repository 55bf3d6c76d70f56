//! What `resightd cameras` and `resightd doctor` say about cameras.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use v4l::control::{Flags, Type};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;

use super::choice::{Prescribed, Wanted, rate, short};
use super::device::{Control, Device, Identity};
use super::{CameraConfig, CameraError, DEVICES, SYSFS, can_capture, choose, controls, find};

/// A size of a format.
#[derive(Debug)]
struct Size {
    pixels: String,
    /// Frames per second.
    rates: Vec<f64>,
    /// Whether any rate between the two is possible.
    is_range: bool,
}

#[derive(Debug)]
struct FormatReport {
    code: String,
    description: String,
    usable: bool,
    sizes: Vec<Size>,
}

/// What there is to say about a device.
#[derive(Debug)]
struct Report {
    path: PathBuf,
    stable: Vec<PathBuf>,
    identity: Option<Identity>,
    formats: Vec<FormatReport>,
    controls: Vec<Control>,
    /// What would be chosen and why.
    choice: Result<String, CameraError>,
}

fn report(path: &Path, wanted: Wanted) -> Report {
    let mut report = Report {
        path: path.to_owned(),
        stable: find::stable_names(Path::new(DEVICES), Path::new(SYSFS), path),
        identity: None,
        formats: vec![],
        controls: vec![],
        choice: Ok(String::new()),
    };
    let opened = Device::open(path).and_then(|device| device.identity().map(|identity| (device, identity)));
    let (device, identity) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            report.choice = Err(find::explain(path, "open it", error));
            return report;
        }
    };
    report.choice = can_capture(path, &identity).and_then(|planes| {
        report.formats = formats(&device, planes);
        report.controls = device.controls();
        let config =
            CameraConfig { device: String::new(), prescribed: Prescribed::default(), controls: vec![] };
        choose(path, &device, &identity, planes, &config, wanted).map(|(choice, _)| choice.to_string())
    });
    report.identity = Some(identity);
    report
}

fn formats(device: &Device, planes: super::Planes) -> Vec<FormatReport> {
    let mut found = vec![];
    for (code, description) in device.formats(planes) {
        let mut sizes = vec![];
        for offered in device.sizes(code) {
            let (size, width, height) = match offered {
                FrameSizeEnum::Discrete(size) => {
                    (format!("{}x{}", size.width, size.height), size.width, size.height)
                }
                FrameSizeEnum::Stepwise(steps) => (
                    format!(
                        "{}x{} to {}x{} in steps of {}x{}",
                        steps.min_width,
                        steps.min_height,
                        steps.max_width,
                        steps.max_height,
                        steps.step_width,
                        steps.step_height
                    ),
                    steps.max_width,
                    steps.max_height,
                ),
            };
            let offered = device.intervals(code, width, height);
            let is_range = offered.iter().any(|interval| matches!(interval, FrameIntervalEnum::Stepwise(_)));
            let intervals = offered.into_iter().flat_map(|interval| match interval {
                FrameIntervalEnum::Discrete(interval) => vec![interval],
                FrameIntervalEnum::Stepwise(steps) => vec![steps.max, steps.min],
            });
            sizes.push(Size { pixels: size, rates: intervals.filter_map(rate).collect(), is_range });
        }
        let usable = super::Known::of(code).is_some();
        found.push(FormatReport { code: code.to_string(), description, usable, sizes });
    }
    found
}

impl Report {
    fn text(&self) -> String {
        let mut lines = vec![self.path.display().to_string()];
        lines.extend(self.stable.iter().map(|name| format!("  stable name  {}", name.display())));
        if let Some(identity) = &self.identity {
            lines.push(format!("  card         {}", identity.card));
            lines.push(format!("  driver, bus  {}, {}", identity.driver, identity.bus));
        }
        for format in &self.formats {
            let note = if format.usable { "" } else { " (of no use here)" };
            lines.push(format!("  format       {} {}{note}", format.code, format.description));
            for size in &format.sizes {
                let rates: Vec<String> = size.rates.iter().map(|rate| short(*rate)).collect();
                let rates = match (rates.is_empty(), size.is_range) {
                    (true, _) => "rates unknown".to_owned(),
                    (false, true) => format!("{} frames/s", rates.join(" to ")),
                    (false, false) => format!("{} frames/s", rates.join(", ")),
                };
                lines.push(format!("    {}: {rates}", size.pixels));
            }
        }
        lines.extend(self.controls.iter().map(|control| format!("  control      {}", describe(control))));
        lines.push(match &self.choice {
            Ok(choice) => format!("  chosen       {choice}"),
            Err(error) => format!("  not usable   {}; {}", error.cause, error.remedy),
        });
        lines.join("\n") + "\n"
    }

    fn json(&self) -> Value {
        let formats: Vec<Value> = self
            .formats
            .iter()
            .map(|format| {
                let size =
                    |size: &Size| json!({ "size": size.pixels, "rates": size.rates, "range": size.is_range });
                json!({
                    "code": format.code,
                    "description": format.description,
                    "usable": format.usable,
                    "sizes": format.sizes.iter().map(size).collect::<Vec<_>>(),
                })
            })
            .collect();
        let controls: Vec<Value> = self
            .controls
            .iter()
            .map(|control| {
                json!({
                    "name": control.name,
                    "kind": control.kind.map(|kind| kind.to_string()),
                    "minimum": control.minimum,
                    "maximum": control.maximum,
                    "step": control.step,
                    "default": control.default,
                    "value": control.value,
                    "items": control.items,
                    "read_only": control.flags.contains(Flags::READ_ONLY),
                    "inactive": control.flags.contains(Flags::INACTIVE),
                })
            })
            .collect();
        let identity = |read: fn(&Identity) -> &str| self.identity.as_ref().map(read);
        json!({
            "device": self.path,
            "stable_names": self.stable,
            "card": identity(|identity| &identity.card),
            "driver": identity(|identity| &identity.driver),
            "bus": identity(|identity| &identity.bus),
            "formats": formats,
            "controls": controls,
            "chosen": self.choice.as_ref().ok(),
            "problem": self.choice.as_ref().err().map(|error| error.cause.to_string()),
            "remedy": self.choice.as_ref().err().map(|error| &error.remedy),
        })
    }
}

/// A control in one line: its range, default and value.
fn describe(control: &Control) -> String {
    let named = |value: i64| {
        let item = control.items.iter().find(|(index, _)| *index == value);
        match (control.kind, item) {
            (Some(Type::Menu), Some((_, name))) => format!("\"{name}\""),
            (Some(Type::IntegerMenu), Some((_, name))) => name.clone(),
            (Some(Type::Boolean), _) => (value != 0).to_string(),
            _ => value.to_string(),
        }
    };
    let mut text = format!("{}: {}", control.name, controls::expected(control));
    if control.kind.is_some_and(|kind| kind != Type::Button) {
        text += &format!(", default {}", named(control.default));
    }
    if let Some(value) = control.value {
        text += &format!(", now {}", named(value));
    }
    if control.flags.contains(Flags::READ_ONLY) {
        text += " (read only)";
    } else if control.flags.contains(Flags::INACTIVE) {
        text += " (now set by an automatic)";
    }
    text
}

const NONE: &str = "no /dev/video*: plug a camera in, or bring frames in with `kind = \"command\"` in [source], for \
    example by rpicam-vid or ffmpeg";

/// Every device, what it offers, and what would be chosen for a network.
pub(crate) fn cameras(wanted: Wanted, as_json: bool) -> String {
    let reports: Vec<Report> =
        find::devices(Path::new(DEVICES)).iter().map(|path| report(path, wanted)).collect();
    if as_json {
        let list: Vec<Value> = reports.iter().map(Report::json).collect();
        return format!("{:#}\n", Value::from(list));
    }
    if reports.is_empty() {
        return format!("{NONE}\n");
    }
    reports.iter().map(Report::text).collect::<Vec<_>>().join("\n")
}

/// A line about each camera, and the problems.
pub(crate) fn doctor(wanted: Wanted) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut problems, mut usable) = (vec![], vec![], false);
    for path in find::devices(Path::new(DEVICES)) {
        let report = report(&path, wanted);
        // The second node of most cameras gives no images, which is no problem.
        if report.identity.as_ref().is_some_and(|identity| identity.capture.is_none()) {
            continue;
        }
        let card = report.identity.map_or_else(|| "unknown".to_owned(), |identity| identity.card);
        lines.push(format!("camera        {} {card}", path.display()));
        match report.choice {
            Ok(_) => usable = true,
            Err(error) => problems.push(error.to_string()),
        }
    }
    if lines.is_empty() {
        lines.push("cameras       none".into());
        problems.push(NONE.into());
    }
    // A sensor's raw node beside a camera that works is no problem either.
    if usable {
        problems.clear();
    }
    (lines, problems)
}

#[cfg(test)]
mod tests {
    use super::super::Planes;
    use super::*;

    fn sample() -> Report {
        let control = Control {
            id: 1,
            name: "auto_exposure".into(),
            kind: Some(Type::Menu),
            minimum: 0,
            maximum: 3,
            step: 1,
            default: 3,
            flags: Flags::empty(),
            items: vec![(1, "Manual Mode".into()), (3, "Aperture Priority Mode".into())],
            value: Some(1),
        };
        let gain = Control {
            name: "gain".into(),
            kind: Some(Type::Integer),
            maximum: 100,
            default: 10,
            items: vec![],
            flags: Flags::INACTIVE,
            ..control.clone()
        };
        let size = |size: &str, rates: &[f64], is_range| Size {
            pixels: size.into(),
            rates: rates.to_vec(),
            is_range,
        };
        Report {
            path: "/dev/video0".into(),
            stable: vec!["/dev/v4l/by-id/usb-Cam".into()],
            identity: Some(Identity {
                driver: "uvcvideo".into(),
                card: "HD Camera".into(),
                bus: "usb-1".into(),
                capture: Some(Planes::Single),
                streaming: true,
                media_controlled: false,
            }),
            formats: vec![
                FormatReport {
                    code: "YUYV".into(),
                    description: "YUYV 4:2:2".into(),
                    usable: true,
                    sizes: vec![size("640x480", &[30.0, 29.97], false), size("320x240", &[], false)],
                },
                FormatReport {
                    code: "H264".into(),
                    description: "H.264".into(),
                    usable: false,
                    sizes: vec![size("640x480", &[1.0, 30.0], true)],
                },
            ],
            controls: vec![control, gain],
            choice: Ok("640x480 YUYV at 30 frames/s: nothing else fits".into()),
        }
    }

    #[test]
    fn a_report_says_everything() {
        let text = sample().text();
        let expected = "/dev/video0\n  stable name  /dev/v4l/by-id/usb-Cam\n  card         HD Camera\n  \
            driver, bus  uvcvideo, usb-1\n  format       YUYV YUYV 4:2:2\n    640x480: 30, 29.97 frames/s\n    \
            320x240: rates unknown\n  format       H264 H.264 (of no use here)\n    640x480: 1 to 30 frames/s\n  \
            control      auto_exposure: one of \"Manual Mode\", \"Aperture Priority Mode\", default \
            \"Aperture Priority Mode\", now \"Manual Mode\"\n  \
            control      gain: 0 to 100, default 10, now 1 (now set by an automatic)\n  \
            chosen       640x480 YUYV at 30 frames/s: nothing else fits\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_has_the_same() {
        let value = sample().json();
        assert_eq!(value["formats"][0]["sizes"][0]["rates"], json!([30.0, 29.97]));
        assert_eq!(value["controls"][0]["items"], json!([[1, "Manual Mode"], [3, "Aperture Priority Mode"]]));
        assert_eq!((&value["card"], &value["problem"]), (&json!("HD Camera"), &Value::Null));
        let refused = Report {
            choice: Err(find::explain(Path::new("/dev/video0"), "open it", rustix::io::Errno::ACCESS.into())),
            identity: None,
            ..sample()
        };
        assert_eq!(refused.json()["problem"], "permission denied");
        assert!(refused.text().contains("not usable   permission denied; add the user to the group video"));
    }

    #[test]
    fn a_file_that_is_no_device_is_reported() {
        let wanted = Wanted { width: 256, height: 256 };
        let text = report(Path::new("/dev/null"), wanted).text();
        assert!(text.contains("not usable   not a V4L2 device"), "{text}");
    }
}
