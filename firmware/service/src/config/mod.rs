//! The configuration file: TOML, checked as a whole, all mistakes reported at once.

mod document;
mod image;
mod input;
mod key;
mod line;
mod model;
mod output;
mod pace;
mod reader;
mod region;
mod rule;
mod schema;
mod source;
mod surroundings;
mod tracking;
mod viewpoint;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use resight_model_file::{Labels, PublicKey};
use resight_runtime::{Model, RuntimeError, ThreadSettings};
use toml::Spanned;
use toml::de::DeTable;

pub(crate) use self::document::{default, reference};
pub(crate) use self::reader::ConfigError;
use self::reader::{MOST, Mistake, Reader, Section};
pub(crate) use self::region::RegionConfig;
pub(crate) use self::rule::RuleConfig;
pub(crate) use self::schema::schema;
use self::surroundings::Surroundings;
pub(crate) use self::viewpoint::ViewpointConfig;
use crate::judge::{Rule, Tracking};
use crate::lines::{InputConfig, LineConfig};
use crate::outputs::OutputConfig;

/// Largest configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// What the file says.
    pub(crate) text: String,
    pub(crate) model: PathBuf,
    /// Whose signature the model must have.
    pub(crate) public_key: Option<PathBuf>,
    pub(crate) threads: ThreadSettings,
    /// One at least.
    pub(crate) cameras: Vec<ViewpointConfig>,
    /// Whether the lines stay at their safe levels, whatever the rules say.
    pub(crate) dry_run: bool,
    pub(crate) lines: Vec<LineConfig>,
    pub(crate) inputs: Vec<InputConfig>,
    pub(crate) rules: Vec<RuleConfig>,
    /// How things are followed from frame to frame.
    pub(crate) tracking: Tracking,
    pub(crate) output: OutputConfig,
}

impl Config {
    /// Reads and checks a file. Relative paths in it start from its folder.
    ///
    /// # Errors
    /// All mistakes at once, each with its line and key and what was expected.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = path.display().to_string();
        Self::parse_in(&text, folder, Surroundings::of_this_process())
            .map_err(|mistakes| ConfigError::Mistakes { file, mistakes })
    }

    /// The lines alone, whatever is wrong elsewhere; with the mistakes of syntax and of lines.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn load_lines(path: &Path) -> Result<(Vec<LineConfig>, Option<ConfigError>), ConfigError> {
        let text = read(path)?;
        let mut reader = Reader::new(&text);
        let table = reader.whole();
        let lines = reader.lines(&mut Section::of(&table));
        let mistakes = reader.mistakes;
        let file = path.display().to_string();
        Ok((lines, (!mistakes.is_empty()).then_some(ConfigError::Mistakes { file, mistakes })))
    }

    /// Checks the text of a file that lies in `folder`, on a machine of which nothing is known.
    ///
    /// # Errors
    /// All mistakes, in the order of their lines.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Mistake>> {
        Self::parse_in(text, folder, Surroundings::default())
    }

    /// Checks the text of a file that lies in `folder`. Looks at nothing else.
    ///
    /// # Errors
    /// All mistakes, in the order of their lines.
    pub(crate) fn parse_in(
        text: &str,
        folder: &Path,
        surroundings: Surroundings,
    ) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader::new(text);
        reader.surroundings = surroundings;
        let table = reader.whole();
        // What follows from a syntax error would only confuse.
        let config = reader.mistakes.is_empty().then(|| reader.config(Section::of(&table), folder)).flatten();
        reader.mistakes.sort_by_key(|mistake| mistake.place.line);
        config.filter(|_| reader.mistakes.is_empty()).ok_or(reader.mistakes)
    }

    /// Reads the model, which must be signed if there is a public key.
    ///
    /// # Errors
    /// A key or a model that cannot be used, no signature or a wrong one.
    pub(crate) fn load_model(&self) -> Result<Model, RuntimeError> {
        let key = self.public_key.as_deref().map(PublicKey::read).transpose()?;
        Model::load_signed(&self.model, key.as_ref())
    }

    /// The rules of each camera for a network's labels.
    ///
    /// # Errors
    /// Patterns that name no class.
    pub(crate) fn rules(&self, file: &Path, labels: &Labels) -> Result<Vec<Vec<Rule>>, ConfigError> {
        let mut mistakes = vec![];
        // Rules often share groups, and a search looks at every class.
        let mut known: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut rules: Vec<Vec<Rule>> = vec![vec![]; self.cameras.len()];
        for config in &self.rules {
            let mut rule = config.rule.clone();
            for (pattern, place) in &config.patterns {
                let found = known.entry(pattern).or_insert_with(|| labels.find(pattern));
                if found.is_empty() && mistakes.len() < MOST {
                    let cause = format!(
                        "no class of the model fits `{pattern}`; expected a class name, a WordNet id or a \
                         pattern with *, such as `{}`",
                        labels.name(0).unwrap_or_default()
                    );
                    mistakes.push(Mistake { place: place.clone(), cause });
                }
                // The scores of the regions stand one behind the other.
                rule.classes.extend(found.iter().map(|class| config.region * labels.len() + class));
            }
            rule.classes.sort_unstable();
            rule.classes.dedup();
            rules[config.camera].push(rule);
        }
        if mistakes.is_empty() {
            return Ok(rules);
        }
        Err(ConfigError::Mistakes { file: file.display().to_string(), mistakes })
    }
}

/// What a configuration says of the files of a release; the rest may be of a later version.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    pub(crate) model: PathBuf,
    pub(crate) public_key: Option<PathBuf>,
}

impl ModelFiles {
    /// Reads `model.file` and `model.public_key`. Relative paths start from the file's folder.
    ///
    /// # Errors
    /// A file that cannot be read, or is no TOML.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let content = read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut reader = Reader::new(&content);
        let table = reader.whole();
        let section = reader.section(&mut Section::of(&table), "model", true);
        let files = section.and_then(|mut section| reader.model_files(&mut section, folder));
        let files = files.map(|(model, public_key)| Self { model, public_key });
        let file = path.display().to_string();
        files
            .filter(|_| reader.mistakes.is_empty())
            .ok_or(ConfigError::Mistakes { file, mistakes: reader.mistakes })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let refuse = |cause: String| ConfigError::Read { file: path.display().to_string(), cause };
    let metadata = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(refuse("not a regular file of up to 1 MiB".into()));
    }
    fs::read_to_string(path).map_err(|error| refuse(error.to_string()))
}

impl<'i> Reader<'i> {
    /// The tables of the text, as far as its syntax can be followed.
    fn whole(&mut self) -> Spanned<DeTable<'i>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors.iter().take(MOST) {
            let cause = error.message().replace('\n', "; ");
            self.mistake(&error.span().unwrap_or(0..0), "", cause);
        }
        table
    }

    fn config(&mut self, mut top: Section<'_, 'i>, folder: &Path) -> Option<Config> {
        let model = self.section(&mut top, "model", true).and_then(|section| self.model(section, folder));
        let safety = self.section(&mut top, "safety", false);
        let (stale, dry_run) = self.safety(safety);
        let (known, cameras) = self.cameras(&mut top, folder, stale);
        let groups = self.groups(&mut top);
        let lines = self.lines(&mut top);
        let inputs = self.inputs(&mut top, folder);
        let tracking = match self.section(&mut top, "tracking", false) {
            Some(section) => self.tracking(section),
            None => Tracking::default(),
        };
        let mut rules = self.rules(&mut top, (&lines, &inputs, &known), &groups);
        for rule in &mut rules {
            rule.rule.boxes.patience = tracking.lost;
        }
        let output = match self.section(&mut top, "output", false) {
            Some(section) => self.output(section, folder, &rules),
            None => OutputConfig::default(),
        };
        self.finish(&top);
        let ((model, public_key), threads) = model?;
        if cameras.is_empty() || cameras.len() < known.len() {
            return None;
        }
        Some(Config {
            text: self.text.to_owned(),
            model,
            public_key,
            threads,
            cameras,
            dry_run,
            lines,
            inputs,
            rules,
            tracking,
            output,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lines::{BackEnd, Bias, InputBackEnd};

    const LEAST: &str = "[model]\nfile = \"m.tar\"\n[source]\nkind = \"mjpeg\"\npath = \"a.mjpeg\"\n";

    fn mistakes(text: &str) -> Vec<String> {
        let mistakes = Config::parse(text, Path::new("")).unwrap_err();
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_page_switches_unless_it_may_not() {
        let http = |rest: &str| {
            let text = format!("{LEAST}[safety]\ndry_run = true\n[output]\nhttp = \"127.0.0.1:1\"\n{rest}");
            Config::parse(&text, Path::new("x"))
        };
        let config = http("").unwrap();
        assert!(config.dry_run && config.output.http.unwrap().switches);
        assert!(!http("switches = false\n").unwrap().output.http.unwrap().switches);
        let mistake = http("switches = 1\n").unwrap_err()[0].to_string();
        assert!(mistake.starts_with("10: output.switches: expected true or false"), "{mistake}");
    }

    #[test]
    fn the_least_is_a_model_and_a_source() {
        let config = Config::parse(LEAST, Path::new("x")).unwrap();
        assert_eq!((config.cameras[0].source.path.as_str(), config.public_key), ("x/a.mjpeg", None));
        assert_eq!(config.cameras[0].stale, Duration::from_secs(2));
        assert!(config.output == OutputConfig::default());
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
            "9: safety.colour: unknown key; expected one of: stale_ms, dry_run",
            "10: line.chip: missing",
            "14: rule.pulse_ms: missing",
            "16: rule.classes: there is no group `cats`",
            "17: rule.lines: there is no valid [[line]] `b`",
            "20: rule.hits: expected a whole number from 1 to `frames`, found `4`",
            "22: output.http: others reach this address",
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "`{found}`, not `{expected}`");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn a_key_of_another_back_end_is_answered_with_the_one_that_is_meant() {
        let line = |rest: &str| format!("{LEAST}[[line]]\nname = \"a\"\n{rest}");
        let found = mistakes(&line("backend = \"gpio\"\nline = \"GPIO4\"\npin = 4\n"));
        assert_eq!(
            found,
            [
                "10: line.pin: unknown key here, `line` is meant; expected one of: name, backend, active_low, safe, \
              chip, line"
            ]
        );
        let source = LEAST.replace("path = ", "device = ");
        let found = mistakes(&source);
        assert!(found.iter().any(|text| text.contains("source.device: unknown key here, `path` is meant")));
        let found = mistakes(&format!("{LEAST}[[line]]\nname = \"a\"\nbackend = \"virtual\"\npin = 1\n"));
        assert!(found[0].starts_with("9: line.pin: unknown key; expected one of"), "{found:?}");
    }

    /// Without these limits each of them takes minutes, or gigabytes.
    #[test]
    fn what_a_megabyte_can_ask_for_has_limits() {
        let keys: String = (0..140_000).map(|number| format!("k{number}=1\n")).collect();
        let found = mistakes(&format!("{keys}{LEAST}"));
        assert_eq!(found.len(), 1000);
        assert!(found[999].starts_with("1000: k999: unknown key"), "{}", found[999]);
        let error = ConfigError::Mistakes {
            file: "c.toml".into(),
            mistakes: Config::parse(&format!("{keys}{LEAST}"), Path::new("")).unwrap_err(),
        };
        assert!(
            error.to_string().ends_with("\nc.toml: these are the first 1000 mistakes; there may be more")
        );
        let tables = |count: u32, text: fn(u32) -> String| -> String { (0..count).map(text).collect() };
        let rules = tables(1001, |number| format!("[[rule]]\nname=\"{number}\"\nclasses=[\"a\"]\n"));
        let found = mistakes(&format!("{LEAST}{rules}"));
        assert_eq!(found, ["3006: rule: expected up to 1000 tables [[rule]], found 1001"]);
        let lines = tables(1001, |number| format!("[[line]]\nname=\"{number}\"\nbackend=\"virtual\"\n"));
        let found = mistakes(&format!("{LEAST}{lines}"));
        assert_eq!(found, ["3006: line: expected up to 1000 tables [[line]], found 1001"]);
        let members = tables(6000, |number| format!("\"{number}\","));
        let rules = tables(2, |number| format!("[[rule]]\nname=\"{number}\"\nclasses=[\"@all\"]\n"));
        let found = mistakes(&format!("{LEAST}[groups]\nall=[{members}]\n{rules}"));
        assert_eq!(
            found,
            ["11: rule.classes: expected up to 10000 classes, patterns and members of groups in all rules"]
        );
        let long = format!("{LEAST}[[rule]]\nname=\"r\"\nclasses=[\"{}\"]\n", "*a".repeat(501));
        assert!(mistakes(&long)[0].starts_with("8: rule.classes: expected a list of class names"));
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
    fn one_wire_has_one_line() {
        let line =
            |name: &str| format!("[[line]]\nname = \"{name}\"\nbackend = \"gpio\"\nline = \"GPIO17\"\n");
        let found = mistakes(&format!("{LEAST}{}{}", line("a"), line("b")));
        assert!(found[0].starts_with("10: line: the lines `a` and `b` are the same wire"), "{found:?}");
    }

    #[test]
    fn inputs_arm_rules_and_rules_have_hours() {
        let text = |rest: &str| {
            format!(
                "{LEAST}[[input]]\nname = \"key\"\nbackend = \"gpio\"\nline = \"GPIO4\"\nbias = \"pull-up\"\n\
                 debounce_ms = 20\n[[rule]]\nname = \"r\"\nclasses = [\"a\"]\n{rest}"
            )
        };
        let good = "armed_by = \"key\"\nactive_hours = [\"22:00-06:00\"]\nactive_days = [\"mon\", \"sun\"]\n";
        let config = Config::parse(&text(good), Path::new("")).unwrap();
        assert!(matches!(&config.inputs[0].back_end, InputBackEnd::Gpio { bias: Some(Bias::PullUp), .. }));
        let rule = &config.rules[0].rule;
        assert_eq!((rule.armed_by, rule.hours.is_some()), (Some(0), true));
        let table = [
            ("armed_by = \"lock\"", "15: rule.armed_by: expected the name of a valid [[input]], found"),
            ("active_hours = [\"8-18\"]", "15: rule.active_hours: expected a list such as"),
            ("active_hours = []", "15: rule.active_hours: expected"),
            ("active_days = [\"Monday\"]", "15: rule.active_days: expected a list of mon"),
        ];
        for (rest, expected) in table {
            let found = mistakes(&text(rest));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{rest}: {found:?}");
        }
    }

    #[test]
    fn registers_are_refused_where_they_do_not_work() {
        let line = |pin: u8| format!("{LEAST}[[line]]\nname = \"a\"\nbackend = \"rppal\"\npin = {pin}\n");
        let parsed = Config::parse(&line(17), Path::new(""));
        if cfg!(all(feature = "rppal", any(target_arch = "aarch64", target_arch = "arm"))) {
            assert_eq!(parsed.unwrap().lines[0].back_end, BackEnd::Registers { pin: 17 });
            assert!(mistakes(&line(58))[0].starts_with("9: line.pin: expected the BCM number of a pin"));
        } else {
            let found = parsed.unwrap_err()[0].to_string();
            assert!(found.starts_with("6: line.backend: this ") && found.contains("\"gpio\""), "{found}");
        }
    }

    #[test]
    fn lines_are_found_whatever_is_wrong_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let lamp = "[[line]]\nname = \"lamp\"\nbackend = \"virtual\"\n";
        let table = [
            (format!("[model]\nfile = 3\n{lamp}[[rule]]\n"), 1, ""),
            (format!("[model]\nfile = \n{lamp}"), 1, "c.toml:2: "),
            (format!("[[line]]\nname = \"a\"\nbackend = \"smoke\"\n{lamp}"), 1, "c.toml:3: line.backend"),
            ("line = 3".to_owned(), 0, "c.toml:1: line: expected tables"),
        ];
        for (text, count, mistake) in table {
            fs::write(&path, &text).unwrap();
            let (lines, mistakes) = Config::load_lines(&path).unwrap();
            assert_eq!(lines.len(), count, "{text}");
            let mistakes = mistakes.map(|error| error.to_string()).unwrap_or_default();
            assert!(
                mistakes.contains(mistake) && mistakes.is_empty() == mistake.is_empty(),
                "{text}: {mistakes}"
            );
        }
        let error = Config::load_lines(&folder.path().join("none.toml")).unwrap_err().to_string();
        assert!(error.contains("none.toml"), "{error}");
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
        assert_eq!(rule("\"*cat\"").unwrap()[0][0].classes, [0, 1]);
        assert_eq!(rule("\"n00000003\", \"Tabby_cat\"").unwrap()[0][0].classes, [0, 2]);
        assert_eq!(rule("\"@pets\", \"dog\"").unwrap()[0][0].classes, [0, 1, 2]);
        let error = rule("\"dog\", \"cow\"").unwrap_err().to_string();
        assert!(error.starts_with("f.toml:10: rule.classes: no class of the model fits `cow`"), "{error}");
    }
}
