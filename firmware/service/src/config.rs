//! The configuration file: TOML, checked as a whole, all mistakes reported at once.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use resight_network::{Labels, ThreadSettings};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::convert::PixelFormat;
use crate::triggers::{MAX_FRAMES, Mode, Rule};

/// What `resightd config --default` prints.
pub(crate) const DEFAULT: &str = include_str!("default.toml");

/// Largest configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Longest time that can be configured, in milliseconds: a day.
const MAX_MS: i64 = 86_400_000;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) model: PathBuf,
    pub(crate) threads: ThreadSettings,
    pub(crate) source: SourceConfig,
    /// Without a frame for so long, the lines go to their safe levels.
    pub(crate) stale: Duration,
    pub(crate) lines: Vec<LineConfig>,
    pub(crate) rules: Vec<RuleConfig>,
    /// Whether events are written to standard output.
    pub(crate) events: bool,
    /// Where the HTTP server listens.
    pub(crate) http: Option<SocketAddr>,
}

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

/// An output line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineConfig {
    pub(crate) name: String,
    pub(crate) back_end: BackEnd,
    pub(crate) active_low: bool,
    /// Whether the line is active at its safe level.
    pub(crate) safe: bool,
}

/// What drives a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BackEnd {
    Virtual,
    Gpio { chip: Option<String>, position: Position },
}

/// How a line of a chip is found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Position {
    Name(String),
    Offset(u32),
}

/// A rule; its classes are still patterns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleConfig {
    /// Without classes.
    pub(crate) rule: Rule,
    /// Patterns with the places where they stand, groups replaced by their members.
    pub(crate) patterns: Vec<(String, Place)>,
}

/// A place in a file, for messages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    line: usize,
    key: String,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mistake {
    place: Place,
    cause: String,
}

/// Why a configuration is refused. One line for each mistake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{file}: cannot read the configuration: {cause}")]
    Read { file: String, cause: String },
    #[error("{}", join(.file, .mistakes))]
    Mistakes { file: String, mistakes: Vec<Mistake> },
}

fn join(file: &str, mistakes: &[Mistake]) -> String {
    let line = |mistake: &Mistake| format!("{file}:{mistake}");
    mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place.line)?;
        if !self.place.key.is_empty() {
            write!(f, "{}: ", self.place.key)?;
        }
        f.write_str(&self.cause)
    }
}

impl Config {
    /// Reads and checks a file. Relative paths in it start from its folder.
    ///
    /// # Errors
    /// All mistakes at once, each with its line and key and what was expected.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let refuse = |cause: String| ConfigError::Read { file: file.clone(), cause };
        let metadata = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(refuse("not a regular file of up to 1 MiB".into()));
        }
        let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(|mistakes| ConfigError::Mistakes { file, mistakes })
    }

    /// Checks the text of a file that lies in `folder`.
    ///
    /// # Errors
    /// All mistakes, in the order of their lines.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader { text, mistakes: vec![] };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = reader.place(&error.span().unwrap_or(0..0), "");
            reader.mistakes.push(Mistake { place, cause: error.message().replace('\n', "; ") });
        }
        // What follows from a syntax error would only confuse.
        let config = reader.mistakes.is_empty().then(|| reader.config(Section::of(&table), folder)).flatten();
        reader.mistakes.sort_by_key(|mistake| mistake.place.line);
        config.filter(|_| reader.mistakes.is_empty()).ok_or(reader.mistakes)
    }

    /// The rules for a network's labels.
    ///
    /// # Errors
    /// Patterns that name no class.
    pub(crate) fn rules(&self, file: &Path, labels: &Labels) -> Result<Vec<Rule>, ConfigError> {
        let mut mistakes = vec![];
        let resolve = |config: &RuleConfig| {
            let mut rule = config.rule.clone();
            for (pattern, place) in &config.patterns {
                let found = labels.find(pattern);
                if found.is_empty() {
                    let cause = format!(
                        "no class of the model fits `{pattern}`; expected a class name, a WordNet id or a \
                         pattern with *, such as `{}`",
                        labels.name(0).unwrap_or_default()
                    );
                    mistakes.push(Mistake { place: place.clone(), cause });
                }
                rule.classes.extend(found);
            }
            rule.classes.sort_unstable();
            rule.classes.dedup();
            rule
        };
        let rules: Vec<Rule> = self.rules.iter().map(resolve).collect();
        if mistakes.is_empty() {
            return Ok(rules);
        }
        Err(ConfigError::Mistakes { file: file.display().to_string(), mistakes })
    }
}

/// A table that forgets each key as it is read: what remains is unknown.
struct Section<'t, 'i> {
    name: String,
    span: Range<usize>,
    entries: Vec<(&'t str, &'t Spanned<DeValue<'i>>, Range<usize>)>,
    known: Vec<&'static str>,
}

impl<'t, 'i> Section<'t, 'i> {
    fn of(table: &'t Spanned<DeTable<'i>>) -> Self {
        Self::new(table.get_ref(), table.span(), "")
    }

    fn new(table: &'t DeTable<'i>, span: Range<usize>, name: &str) -> Self {
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), value, key.span())).collect();
        Self { name: name.to_owned(), span, entries, known: vec![] }
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.known.push(key);
        let position = self.entries.iter().position(|(name, ..)| *name == key)?;
        Some(self.entries.swap_remove(position).1)
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

struct Reader<'i> {
    text: &'i str,
    mistakes: Vec<Mistake>,
}

impl<'i> Reader<'i> {
    fn place(&self, span: &Range<usize>, key: &str) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Place { line: 1 + before.matches('\n').count(), key: key.to_owned() }
    }

    fn mistake(&mut self, span: &Range<usize>, key: &str, cause: impl Into<String>) {
        let place = self.place(span, key);
        self.mistakes.push(Mistake { place, cause: cause.into() });
    }

    /// Reads a key with `read`; a value that it refuses is a mistake.
    fn optional<T>(
        &mut self,
        section: &mut Section<'_, 'i>,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        let value = section.take(key)?;
        let result = read(value.get_ref());
        if result.is_none() {
            let found = self.text.get(value.span()).unwrap_or_default().lines().next().unwrap_or_default();
            let cause = format!("expected {expected}, found `{found}`");
            self.mistake(&value.span(), &section.key(key), cause);
        }
        result
    }

    fn required<T>(
        &mut self,
        section: &mut Section<'_, 'i>,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        if !section.entries.iter().any(|(name, ..)| *name == key) {
            section.known.push(key);
            self.mistake(&section.span.clone(), &section.key(key), format!("missing; expected {expected}"));
            return None;
        }
        self.optional(section, key, expected, read)
    }

    fn finish(&mut self, section: &Section<'_, 'i>) {
        for (key, _, span) in &section.entries {
            let known = section.known.join(", ");
            self.mistake(span, &section.key(key), format!("unknown key; expected one of: {known}"));
        }
    }

    /// A table at the top.
    fn section<'t>(
        &mut self,
        top: &mut Section<'t, 'i>,
        key: &'static str,
        required: bool,
    ) -> Option<Section<'t, 'i>> {
        let Some(value) = top.take(key) else {
            if required {
                self.mistake(&(0..0), key, format!("missing; expected a table [{key}]"));
            }
            return None;
        };
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(&value.span(), key, format!("expected a table [{key}]"));
            return None;
        };
        Some(Section::new(table, value.span(), key))
    }

    /// An array of tables at the top.
    fn sections<'t>(&mut self, top: &mut Section<'t, 'i>, key: &'static str) -> Vec<Section<'t, 'i>> {
        let Some(value) = top.take(key) else { return vec![] };
        let tables = value.get_ref().as_array().map(|array| {
            let table = |item: &'t Spanned<DeValue<'i>>| {
                item.get_ref().as_table().map(|table| Section::new(table, item.span(), key))
            };
            array.iter().map(table).collect::<Option<Vec<_>>>()
        });
        tables.flatten().unwrap_or_else(|| {
            self.mistake(&value.span(), key, format!("expected tables [[{key}]]"));
            vec![]
        })
    }

    fn config(&mut self, mut top: Section<'_, 'i>, folder: &Path) -> Option<Config> {
        let model = self.section(&mut top, "model", true).and_then(|section| self.model(section, folder));
        let source = self.section(&mut top, "source", true).and_then(|section| self.source(section, folder));
        let mut stale = Duration::from_secs(2);
        if let Some(mut section) = self.section(&mut top, "safety", false) {
            stale = self.duration(&mut section, "stale_ms", 1).unwrap_or(stale);
            self.finish(&section);
        }
        let (mut events, mut http) = (true, None);
        if let Some(mut section) = self.section(&mut top, "output", false) {
            events = self.optional(&mut section, "events", "true or false", DeValue::as_bool).unwrap_or(true);
            let expected = "a loopback address with a port, such as \"127.0.0.1:8600\"";
            http = self.optional(&mut section, "http", expected, |value| {
                value.as_str()?.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
            });
            self.finish(&section);
        }
        let groups = self.groups(&mut top);
        let mut lines: Vec<LineConfig> = vec![];
        for section in self.sections(&mut top, "line") {
            let span = section.span.clone();
            if let Some(line) = self.line(section) {
                if lines.iter().any(|other| other.name == line.name) {
                    self.mistake(&span, "line.name", format!("there are two lines `{}`", line.name));
                }
                lines.push(line);
            }
        }
        let mut rules: Vec<RuleConfig> = vec![];
        for section in self.sections(&mut top, "rule") {
            let span = section.span.clone();
            if let Some(rule) = self.rule(section, &lines, &groups) {
                if rules.iter().any(|other| other.rule.name == rule.rule.name) {
                    self.mistake(&span, "rule.name", format!("there are two rules `{}`", rule.rule.name));
                }
                rules.push(rule);
            }
        }
        self.finish(&top);
        let (model, threads) = model?;
        Some(Config { model, threads, source: source?, stale, lines, rules, events, http })
    }

    fn model(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<(PathBuf, ThreadSettings)> {
        let file = self.required(&mut section, "file", "the path of a model file", text);
        let threads = self.optional(&mut section, "threads", "a whole number from 1 to 256", |value| {
            NonZeroUsize::new(usize::try_from(integer(value)?).ok()?).filter(|threads| threads.get() <= 256)
        });
        let pin = self.optional(&mut section, "pin", "true or false", DeValue::as_bool).unwrap_or(false);
        self.finish(&section);
        Some((folder.join(file?), ThreadSettings { threads, pin }))
    }

    fn source(&mut self, mut section: Section<'_, 'i>, folder: &Path) -> Option<SourceConfig> {
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

    fn groups(&mut self, top: &mut Section<'_, 'i>) -> Vec<(String, Vec<String>)> {
        let Some(section) = self.section(top, "groups", false) else { return vec![] };
        let mut groups = vec![];
        for (name, value, _) in &section.entries {
            match patterns(value.get_ref()) {
                Some(members) => {
                    groups
                        .push(((*name).to_owned(), members.into_iter().map(|(member, _)| member).collect()));
                }
                None => self.mistake(
                    &value.span(),
                    &section.key(name),
                    "expected a list of class names, WordNet ids or patterns",
                ),
            }
        }
        groups
    }

    fn line(&mut self, mut section: Section<'_, 'i>) -> Option<LineConfig> {
        let name = self.required(&mut section, "name", "a name", text);
        let back_end = self.required(&mut section, "backend", "\"virtual\" or \"gpio\"", |value| {
            ["virtual", "gpio"].into_iter().find(|known| Some(*known) == value.as_str())
        });
        let active_low =
            self.optional(&mut section, "active_low", "true or false", DeValue::as_bool).unwrap_or(false);
        let safe = self.optional(&mut section, "safe", "\"active\" or \"inactive\"", |value| {
            match value.as_str()? {
                "active" => Some(true),
                "inactive" => Some(false),
                _ => None,
            }
        });
        let back_end = match back_end {
            Some("gpio") => {
                let chip = self.optional(&mut section, "chip", "the label of a GPIO chip", text);
                let position =
                    self.required(&mut section, "line", "the name of a GPIO line, or its offset", |value| {
                        let offset = integer(value).and_then(|offset| u32::try_from(offset).ok());
                        text(value).map(Position::Name).or(offset.map(Position::Offset))
                    });
                if chip.is_none() && matches!(position, Some(Position::Offset(_))) {
                    let cause = "missing; expected the label of the chip that the offset belongs to";
                    self.mistake(&section.span.clone(), &section.key("chip"), cause);
                }
                position.map(|position| BackEnd::Gpio { chip, position })
            }
            Some(_) => Some(BackEnd::Virtual),
            None => None,
        };
        if back_end.is_some() {
            self.finish(&section);
        }
        Some(LineConfig { name: name?, back_end: back_end?, active_low, safe: safe.unwrap_or(false) })
    }

    fn rule(
        &mut self,
        mut section: Section<'_, 'i>,
        lines: &[LineConfig],
        groups: &[(String, Vec<String>)],
    ) -> Option<RuleConfig> {
        let name = self.required(&mut section, "name", "a name", text);
        let expected = "a list of class names, WordNet ids, patterns or groups (\"@name\")";
        let written = self.required(&mut section, "classes", expected, patterns).unwrap_or_default();
        let threshold = self.optional(&mut section, "threshold", "a probability above 0, up to 1", |value| {
            number(value).filter(|threshold| *threshold > 0.0 && *threshold <= 1.0)
        });
        let count = |value: &DeValue<'_>| {
            integer(value).filter(|count| (1..=MAX_FRAMES as i64).contains(count)).map(|count| count as usize)
        };
        let frames = self.optional(&mut section, "frames", "a whole number from 1 to 64", count).unwrap_or(1);
        let hits = self.optional(&mut section, "hits", "a whole number from 1 to `frames`", |value| {
            count(value).filter(|hits| *hits <= frames)
        });
        let hold = self.duration(&mut section, "hold_ms", 0).unwrap_or_default();
        let cooldown = self.duration(&mut section, "cooldown_ms", 0).unwrap_or_default();
        let mode = self.optional(&mut section, "mode", "\"level\", \"pulse\" or \"toggle\"", |value| {
            ["level", "pulse", "toggle"].into_iter().find(|mode| Some(*mode) == value.as_str())
        });
        let mode = match mode {
            Some("pulse") => {
                let expected = "milliseconds, 1 to 86400000";
                let length =
                    self.required(&mut section, "pulse_ms", expected, |value| milliseconds(value, 1));
                Mode::Pulse(length.unwrap_or_default())
            }
            Some("toggle") => Mode::Toggle,
            _ => Mode::Level,
        };
        let mut indices = vec![];
        let expected = "a list of names of lines";
        let span = section.span.clone();
        for (line, at) in self.optional(&mut section, "lines", expected, patterns).unwrap_or_default() {
            match lines.iter().position(|other| other.name == line) {
                Some(index) => indices.push(index),
                None => {
                    self.mistake(&at, &section.key("lines"), format!("there is no valid [[line]] `{line}`"));
                }
            }
        }
        self.finish(&section);
        let mut resolved = vec![];
        for (pattern, at) in written {
            let place = self.place(&at, &section.key("classes"));
            match pattern.strip_prefix('@') {
                None => resolved.push((pattern, place)),
                Some(group) => match groups.iter().find(|(name, _)| name == group) {
                    Some((_, members)) => {
                        resolved.extend(members.iter().map(|member| (member.clone(), place.clone())));
                    }
                    None => self.mistake(&at, &place.key, format!("there is no group `{group}` in [groups]")),
                },
            }
        }
        if resolved.is_empty() && section.known.contains(&"classes") && self.mistakes.is_empty() {
            self.mistake(&span, &section.key("classes"), "expected at least one class");
        }
        let rule = Rule {
            name: name?,
            classes: vec![],
            threshold: threshold.unwrap_or(0.5) as f32,
            hits: hits.unwrap_or(1),
            frames,
            hold,
            cooldown,
            mode,
            lines: indices,
        };
        Some(RuleConfig { rule, patterns: resolved })
    }

    fn duration(&mut self, section: &mut Section<'_, 'i>, key: &'static str, least: i64) -> Option<Duration> {
        let expected = format!("milliseconds, a whole number from {least} to {MAX_MS}");
        self.optional(section, key, &expected, |value| milliseconds(value, least))
    }
}

/// Text that is not empty.
fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    value
        .as_float()
        .and_then(|float| float.as_str().parse().ok())
        .or(integer(value).map(|integer| integer as f64))
}

fn milliseconds(value: &DeValue<'_>, least: i64) -> Option<Duration> {
    let milliseconds = integer(value).filter(|value| (least..=MAX_MS).contains(value))?;
    Some(Duration::from_millis(milliseconds as u64))
}

/// A list of different texts that are not empty, with their places.
fn patterns(value: &DeValue<'_>) -> Option<Vec<(String, Range<usize>)>> {
    let read = |item: &Spanned<DeValue<'_>>| text(item.get_ref()).map(|text| (text, item.span()));
    let list = value.as_array()?.iter().map(read).collect::<Option<Vec<_>>>()?;
    let mut seen = HashSet::new();
    list.iter().all(|(text, _)| seen.insert(text.clone())).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[model]\nfile = \"m.tar\"\n[source]\nkind = \"mjpeg\"\npath = \"a.mjpeg\"\n";

    fn mistakes(text: &str) -> Vec<String> {
        let mistakes = Config::parse(text, Path::new("")).unwrap_err();
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_default_passes_its_own_check() {
        let config = Config::parse(DEFAULT, Path::new("/etc/resight")).unwrap();
        assert!(!config.rules.is_empty() && !config.lines.is_empty());
        assert_eq!(config.model, Path::new("/etc/resight/model.resight.tar"));
    }

    #[test]
    fn the_least_is_a_model_and_a_source() {
        let config = Config::parse(LEAST, Path::new("x")).unwrap();
        assert_eq!(config.source.path, "x/a.mjpeg");
        assert_eq!(config.stale, Duration::from_secs(2));
        assert!(config.events && config.http.is_none());
    }

    #[test]
    fn all_mistakes_come_at_once_with_line_and_key() {
        let text = "[model]\nfile = 3\n[source]\nkind = \"raw\"\npath = \"x\"\nwidth = 0\n[safety]\nstale_ms = -1\n\
                    colour = 1\n[[line]]\nname = \"a\"\nbackend = \"gpio\"\nline = 4\n[[rule]]\nname = \"r\"\n\
                    classes = [\"@cats\"]\nlines = [\"b\"]\nmode = \"pulse\"\nframes = 3\nhits = 4\n\
                    [output]\nhttp = \"0.0.0.0:80\"\n";
        let found = mistakes(text);
        let expected = [
            "2: model.file: expected the path of a model file, found `3`",
            "3: source.format: missing",
            "3: source.height: missing",
            "6: source.width: expected a whole number of pixels",
            "8: safety.stale_ms: expected milliseconds",
            "9: safety.colour: unknown key; expected one of: stale_ms",
            "10: line.chip: missing",
            "14: rule.pulse_ms: missing",
            "16: rule.classes: there is no group `cats`",
            "17: rule.lines: there is no valid [[line]] `b`",
            "20: rule.hits: expected a whole number from 1 to `frames`, found `4`",
            "22: output.http: expected a loopback address",
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "`{found}`, not `{expected}`");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn syntax_errors_name_their_line() {
        let found = mistakes("[model]\nfile = \n");
        assert!(found[0].starts_with("2: "), "{found:?}");
        assert!(mistakes("")[0].contains("model"));
    }

    #[test]
    fn names_are_unique_and_the_old_key_may_not_linger() {
        let line = "[[line]]\nname = \"a\"\nbackend = \"virtual\"\n";
        assert!(mistakes(&format!("{LEAST}{line}{line}"))[0].contains("two lines `a`"));
        assert!(mistakes(&format!("{LEAST}{line}chip = \"x\"\n"))[0].contains("line.chip: unknown key"));
    }

    #[test]
    fn patterns_become_classes_and_unknown_ones_are_refused() {
        let labels =
            Labels::parse("l", b"n00000001 tabby cat\nn00000002 tiger cat\nn00000003 dog\n").unwrap();
        let rule = |classes: &str| {
            let text = format!(
                "{LEAST}[groups]\npets = [\"*cat\", \"dog\"]\n[[rule]]\nname = \"r\"\nclasses = [{classes}]\n"
            );
            Config::parse(&text, Path::new("")).unwrap().rules(Path::new("f.toml"), &labels)
        };
        assert_eq!(rule("\"*cat\"").unwrap()[0].classes, [0, 1]);
        assert_eq!(rule("\"n00000003\", \"Tabby_cat\"").unwrap()[0].classes, [0, 2]);
        assert_eq!(rule("\"@pets\", \"dog\"").unwrap()[0].classes, [0, 1, 2]);
        let error = rule("\"dog\", \"cow\"").unwrap_err().to_string();
        assert!(error.starts_with("f.toml:10: rule.classes: no class of the model fits `cow`"), "{error}");
    }
}
