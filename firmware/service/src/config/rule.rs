//! `[groups]` and `[[rule]]`: what switches lines.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use toml::de::DeValue;

use super::reader::{Place, Reader, Section, integer, milliseconds, number, patterns, text};
use super::region::RegionConfig;
use super::viewpoint::KnownCamera;
use crate::judge::{BoxCondition, Hours, MAX_FRAMES, Mode, Rule, Window};
use crate::lines::{InputConfig, LineConfig};

/// Most classes, patterns and members of groups of all rules together.
const MOST_PATTERNS: usize = 10_000;

/// Longest class or pattern, in bytes.
const LONGEST_PATTERN: usize = 1000;

/// A rule; its classes are still patterns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleConfig {
    /// Without classes.
    pub(crate) rule: Rule,
    /// Which camera it is about.
    pub(crate) camera: usize,
    /// Which region it is about; 0 where there are none.
    pub(crate) region: usize,
    /// Patterns with the places where they stand, groups replaced by their members.
    pub(crate) patterns: Vec<(String, Place)>,
}

/// What rules name: lines, inputs, and cameras with their regions.
pub(super) type Known<'k> = (&'k [LineConfig], &'k [InputConfig], &'k [KnownCamera]);

/// Which camera and region a rule names; `None` is each.
type Scope = (Option<usize>, Option<usize>);

/// Most corners of a zone.
const MOST_CORNERS: usize = 64;

/// A number from 0 to 1.
fn share(value: &DeValue<'_>) -> Option<f32> {
    number(value).filter(|share| (0.0..=1.0).contains(share)).map(|share| share as f32)
}

/// A corner `[x, y]` of a zone.
fn corner_of(value: &DeValue<'_>) -> Option<[f32; 2]> {
    match value.as_array()?.iter().map(|side| share(side.get_ref())).collect::<Vec<_>>()[..] {
        [Some(x), Some(y)] => Some([x, y]),
        _ => None,
    }
}

/// Members of groups by the groups' names.
pub(super) type Groups = HashMap<String, Vec<String>>;

/// A list of class names, WordNet ids or patterns, with their places.
fn class_patterns(value: &DeValue<'_>) -> Option<Vec<(String, Range<usize>)>> {
    patterns(value).filter(|list| list.iter().all(|(pattern, _)| pattern.len() <= LONGEST_PATTERN))
}

/// The rule for each camera and region that it is about.
fn of_each(rule: &RuleConfig, (camera, region): Scope, cameras: &[KnownCamera]) -> Vec<RuleConfig> {
    let mut all = vec![];
    let chosen =
        cameras.iter().enumerate().filter(|(number, _)| camera.is_none_or(|camera| camera == *number));
    for (number, known) in chosen {
        let mut rule = RuleConfig { camera: number, ..rule.clone() };
        if let Some(name) = known.name.as_ref().filter(|_| camera.is_none()) {
            rule.rule.name = format!("{}/{name}", rule.rule.name);
        }
        match region {
            None if !known.regions.is_empty() => all.extend(of_each_region(&rule, &known.regions)),
            _ => all.push(rule),
        }
    }
    all
}

/// The same rule for each region.
fn of_each_region(rule: &RuleConfig, regions: &[RegionConfig]) -> Vec<RuleConfig> {
    let of = |(number, region): (usize, &RegionConfig)| {
        let mut rule = RuleConfig { region: number, ..rule.clone() };
        rule.rule.name = format!("{}/{}", rule.rule.name, region.name);
        rule
    };
    regions.iter().enumerate().map(of).collect()
}

impl<'i> Reader<'i> {
    /// All rules. Those that follow too many patterns are left out: each is looked for in all classes.
    pub(super) fn rules(
        &mut self,
        top: &mut Section<'_, 'i>,
        known: Known<'_>,
        groups: &Groups,
    ) -> Vec<RuleConfig> {
        let (mut rules, mut names, mut count): (Vec<RuleConfig>, _, _) = (vec![], HashSet::new(), 0);
        for section in self.sections(top, "rule") {
            let span = section.span.clone();
            let Some((rule, scope)) = self.rule(section, known, groups) else { continue };
            let own = of_each(&rule, scope, known.2);
            count += own.iter().map(|rule| rule.patterns.len()).sum::<usize>();
            if count > MOST_PATTERNS {
                let cause = format!(
                    "expected up to {MOST_PATTERNS} classes, patterns and members of groups in all rules"
                );
                self.mistake(&span, "rule.classes", cause);
                return rules;
            }
            for rule in own {
                if !names.insert(rule.rule.name.clone()) {
                    self.mistake(&span, "rule.name", format!("there are two rules `{}`", rule.rule.name));
                }
                rules.push(rule);
            }
        }
        rules
    }

    /// When a rule acts; `None` is always.
    fn hours(&mut self, section: &mut Section<'_, 'i>) -> Option<Hours> {
        let expected = "a list such as [\"08:00-18:00\", \"22:00-06:00\"]";
        let windows = self.optional(section, "active_hours", expected, |value| {
            let windows = patterns(value)?;
            let windows = windows.iter().map(|(text, _)| Window::parse(text)).collect::<Option<Vec<_>>>();
            windows.filter(|windows| !windows.is_empty())
        });
        let expected = "a list of mon, tue, wed, thu, fri, sat, sun";
        let days = self.optional(section, "active_days", expected, |value| {
            let days = patterns(value).filter(|days| !days.is_empty())?;
            let days: Vec<String> = days.into_iter().map(|(day, _)| day).collect();
            Hours::new(vec![], days.iter().map(String::as_str)).map(|_| days)
        });
        if windows.is_none() && days.is_none() {
            return None;
        }
        let days = days.unwrap_or_default();
        Hours::new(windows.unwrap_or_default(), days.iter().map(String::as_str))
    }

    /// Which camera and which region a rule is about.
    fn scope(&mut self, section: &mut Section<'_, 'i>, cameras: &[KnownCamera]) -> Scope {
        let is_named = section.entries.iter().any(|(key, ..)| *key == "camera");
        let camera = self.optional(section, "camera", "the name of a valid [[camera]]", |value| {
            let name = text(value)?;
            cameras.iter().position(|camera| camera.name.as_ref() == Some(&name))
        });
        let is_one_of_several = cameras.first().is_some_and(|camera| camera.name.is_some());
        if is_one_of_several && camera.is_none() {
            if let Some(value) = section.take("region").filter(|_| !is_named) {
                let cause = "expected `camera` beside it, whose region it is";
                self.mistake(&value.span(), &section.key("region"), cause);
            }
            return (None, None);
        }
        let regions = cameras.get(camera.unwrap_or(0)).map_or(&[][..], |camera| &camera.regions);
        (camera, self.region(section, regions))
    }

    /// The indices of the lines that a rule acts on.
    fn lines_of(&mut self, section: &mut Section<'_, 'i>, lines: &[LineConfig]) -> Vec<usize> {
        let mut indices = vec![];
        let listed =
            self.optional(section, "lines", "a list of names of lines", patterns).unwrap_or_default();
        for (line, at) in listed {
            match lines.iter().position(|other| other.name == line) {
                Some(index) => indices.push(index),
                None => {
                    self.mistake(&at, &section.key("lines"), format!("there is no valid [[line]] `{line}`"));
                }
            }
        }
        indices
    }

    /// Which boxes count, of a network that finds some.
    fn boxes(&mut self, section: &mut Section<'_, 'i>) -> BoxCondition {
        let expected = "three corners at least, [x, y] as shares of width and height from 0 to 1";
        let zone = self.optional(section, "zone", expected, |value| {
            let corners = value.as_array()?.iter().map(|corner| corner_of(corner.get_ref()));
            corners
                .collect::<Option<Vec<[f32; 2]>>>()
                .filter(|corners| (3..=MOST_CORNERS).contains(&corners.len()))
        });
        let expected = "a share of the picture from 0 to 1";
        let least_size = self.optional(section, "least_size", expected, share);
        let expected = "a whole number of boxes from 1 to 1000";
        let count = self.optional(section, "count", expected, |value| {
            integer(value).filter(|count| (1..=1000).contains(count)).map(|count| count as usize)
        });
        BoxCondition {
            zone: zone.unwrap_or_default(),
            least_size: least_size.unwrap_or(0.0),
            count: count.unwrap_or(1),
        }
    }

    pub(super) fn groups(&mut self, top: &mut Section<'_, 'i>) -> Groups {
        let Some(section) = self.section(top, "groups", false) else { return Groups::new() };
        let mut groups = Groups::new();
        for (name, value, _) in &section.entries {
            match class_patterns(value.get_ref()) {
                Some(members) => {
                    let members = members.into_iter().map(|(member, _)| member).collect();
                    groups.insert((*name).to_owned(), members);
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

    pub(super) fn rule(
        &mut self,
        mut section: Section<'_, 'i>,
        (lines, inputs, cameras): Known<'_>,
        groups: &Groups,
    ) -> Option<(RuleConfig, Scope)> {
        let name = self.required(&mut section, "name", "a name", text);
        let expected = "a list of class names, WordNet ids, patterns or groups (\"@name\")";
        let written = self.required(&mut section, "classes", expected, class_patterns).unwrap_or_default();
        let threshold = self.optional(&mut section, "threshold", "a probability above 0, up to 1", |value| {
            number(value).filter(|threshold| *threshold > 0.0 && *threshold <= 1.0)
        });
        let boxes = self.boxes(&mut section);
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
        let span = section.span.clone();
        let indices = self.lines_of(&mut section, lines);
        let armed_by = self.optional(&mut section, "armed_by", "the name of a valid [[input]]", |value| {
            let name = text(value)?;
            inputs.iter().position(|input| input.name == name)
        });
        let (camera, region) = self.scope(&mut section, cameras);
        let hours = self.hours(&mut section);
        self.finish(&section);
        let mut resolved = vec![];
        for (pattern, at) in written {
            let place = self.place(&at, &section.key("classes"));
            match pattern.strip_prefix('@') {
                None => resolved.push((pattern, place)),
                Some(group) => match groups.get(group) {
                    Some(members) => {
                        let room = (MOST_PATTERNS + 1).saturating_sub(resolved.len());
                        let members = members.iter().take(room);
                        resolved.extend(members.map(|member| (member.clone(), place.clone())));
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
            boxes,
            threshold: threshold.unwrap_or(0.5) as f32,
            hits: hits.unwrap_or(1),
            frames,
            hold,
            cooldown,
            mode,
            armed_by,
            hours,
            lines: indices,
        };
        let rule = RuleConfig { rule, camera: 0, region: region.unwrap_or(0), patterns: resolved };
        Some((rule, (camera, region)))
    }
}
