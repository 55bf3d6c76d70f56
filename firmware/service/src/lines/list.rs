//! What `resightd lines` and `resightd doctor` say about GPIO chips and their lines.

use std::path::{Path, PathBuf};

use gpiocdev::chip::Chip;
use gpiocdev::line::Direction;
use serde_json::{Value, json};

use super::gpio::{device_of, holder};

/// What there is to say about a chip.
struct Report {
    path: PathBuf,
    /// The device in sysfs that it belongs to.
    device: Option<PathBuf>,
    /// Its label and lines, or why it cannot be opened.
    content: gpiocdev::Result<(String, Vec<LineReport>)>,
}

struct LineReport {
    offset: u32,
    /// May be empty.
    name: String,
    output: bool,
    active_low: bool,
    /// Who uses it; `None` if nobody does.
    holder: Option<String>,
}

fn report(path: PathBuf) -> Report {
    let read = || {
        let chip = Chip::from_path(&path)?;
        let mut lines = vec![];
        for info in chip.line_info_iter()? {
            let info = info?;
            lines.push(LineReport {
                offset: info.offset,
                name: info.name.clone(),
                output: info.direction == Direction::Output,
                active_low: info.active_low,
                holder: holder(info),
            });
        }
        Ok((chip.info()?.label, lines))
    };
    let content = read();
    let device = device_of(&path, Path::new("/sys"));
    Report { path, device, content }
}

/// Without a chip.
pub(crate) const NONE: &str = "no /dev/gpiochip*: only `backend = \"virtual\"` works for lines here";

impl Report {
    fn text(&self) -> String {
        let path = self.path.display();
        let (label, lines) = match &self.content {
            Ok(content) => content,
            Err(cause) => {
                return format!(
                    "{path}\n  cannot be opened: {cause}; add the user to the group gpio with `usermod -a -G gpio USER`\n"
                );
            }
        };
        let mut text = format!("{path}\n  chip = {label:?}, {} lines\n", lines.len());
        if let Some(device) = &self.device {
            text +=
                &format!("  or chip = {:?}, where several have that label\n", device.display().to_string());
        }
        let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0).max(4);
        for line in lines {
            let direction = if line.output { "output" } else { "input" };
            let polarity = if line.active_low { ", active low" } else { "" };
            let holder = line.holder.as_ref().map_or("free".into(), |holder| format!("held by `{holder}`"));
            let name = if line.name.is_empty() { "-" } else { line.name.as_str() };
            text += &format!("  {:>4}  {name:width$}  {direction}{polarity}, {holder}\n", line.offset);
        }
        text
    }

    fn json(&self) -> Value {
        let content = self.content.as_ref();
        let line = |line: &LineReport| {
            json!({
                "offset": line.offset,
                "name": (!line.name.is_empty()).then_some(&line.name),
                "direction": if line.output { "output" } else { "input" },
                "active_low": line.active_low,
                "holder": line.holder,
            })
        };
        json!({
            "chip": self.path,
            "device": self.device,
            "label": content.ok().map(|(label, _)| label),
            "lines": content.map_or(vec![], |(_, lines)| lines.iter().map(line).collect()),
            "problem": content.err().map(ToString::to_string),
        })
    }
}

/// Every GPIO chip with its lines: what `chip` and `line` of a configuration can be, and who
/// holds what.
pub(crate) fn list(as_json: bool) -> String {
    let reports: Vec<Report> = gpiocdev::chip::chips().unwrap_or_default().into_iter().map(report).collect();
    if as_json {
        let list: Vec<Value> = reports.iter().map(Report::json).collect();
        return format!("{:#}\n", Value::from(list));
    }
    if reports.is_empty() {
        return format!("{NONE}\n");
    }
    reports.iter().map(Report::text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [Report; 2] {
        let line = |offset, name: &str, output, holder: Option<&str>| LineReport {
            offset,
            name: name.into(),
            output,
            active_low: output,
            holder: holder.map(str::to_owned),
        };
        let lines = vec![line(0, "ID_SDA", false, None), line(17, "", true, Some("resightd"))];
        [
            Report {
                path: "/dev/gpiochip0".into(),
                device: Some("/sys/devices/1f000d0000.gpio".into()),
                content: Ok(("pinctrl-rp1".into(), lines)),
            },
            Report {
                path: "/dev/gpiochip1".into(),
                device: None,
                content: Err(std::io::Error::from(rustix::io::Errno::ACCESS).into()),
            },
        ]
    }

    #[test]
    fn lines_are_listed_with_what_a_configuration_needs() {
        let [chip, refused] = sample();
        let expected = "/dev/gpiochip0\n  chip = \"pinctrl-rp1\", 2 lines\n  \
            or chip = \"/sys/devices/1f000d0000.gpio\", where several have that label\n     \
            0  ID_SDA  input, free\n    \
            17  -       output, active low, held by `resightd`\n";
        assert_eq!(chip.text(), expected);
        let text = refused.text();
        assert!(text.contains("Permission denied") && text.contains("usermod"), "{text}");
    }

    #[test]
    fn the_same_as_json() {
        let [chip, refused] = sample().map(|report| report.json());
        assert_eq!(
            (&chip["label"], &chip["lines"][1]["holder"]),
            (&json!("pinctrl-rp1"), &json!("resightd"))
        );
        assert_eq!(
            (&chip["lines"][1]["name"], &chip["lines"][0]["direction"]),
            (&Value::Null, &json!("input"))
        );
        assert_eq!(
            (&refused["problem"], &refused["lines"]),
            (&json!("Permission denied (os error 13)"), &json!([]))
        );
    }

    #[test]
    fn a_file_is_no_chip() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = report(file.path().to_owned()).content.err().unwrap().to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}
