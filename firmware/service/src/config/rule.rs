//! `[groups]` and `[[rule]]`: what switches lines.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::key::{Expected, Key, NAME, Table};
use super::reader::{Place, Reader, Section, integer, milliseconds, number, patterns, text};
use super::region::{REGION_OF_RULE, RegionConfig};
use super::viewpoint::KnownCamera;
use crate::judge::{
    BoxCondition, Crossing, Direction, Happening, Hours, MAX_FRAMES, MOST_CORNERS, Mode, Rule, Window,
};
use crate::lines::{InputConfig, LineConfig};

pub(super) const GROUPS: Table = Table {
    free: Some("array"),
    ..Table::set(
        "[groups]",
        "Groups of classes, for rules: names, WordNet ids, or patterns with *.",
        &[Key::set("cats", "[\"*cat*\", \"n02123045\"]", Expected::Words("a group"), "")],
    )
};

const NAME_OF_RULE: Key = Key::set("name", "\"cat\"", NAME, "What events, metrics and the page call it.");
const CLASSES: Key = Key::set(
    "classes",
    "[\"@cats\"]",
    Expected::Words("a list of class names, WordNet ids, patterns or groups (\"@name\")"),
    "Class names, WordNet ids, patterns with * or groups with @. Their probabilities are added.",
);
const CAMERA: Key = Key::shown(
    "camera",
    "\"porch\"",
    Expected::Words("the name of a valid [[camera]]"),
    "Which [[camera]] it is about, where there are some; without it, the rule is one for each of them, RULE/CAMERA. A \
     line that rules of several cameras drive is at its safe level while frames of one of these are missing.",
);
const THRESHOLD: Key = Key::set(
    "threshold",
    "0.5",
    Expected::Words("a probability above 0, up to 1"),
    "The least probability; of a network that finds boxes, the score that a box must have; of one that gives masks, \
     the share of the picture.",
);
const COUNT: Key = Key::shown(
    "count",
    "2",
    Expected::Words("a whole number of things from 1 to 1000"),
    "Of a network that finds boxes (`resight quantize --task detect`): how many there must be. Of one that finds the \
     points of several things (`--task keypoints` with `[fields]`): how many of them must have one of the classes' \
     points.",
);
const LEAST_SIZE: Key = Key::shown(
    "least_size",
    "0.01",
    Expected::Words("a share of the picture from 0 to 1"),
    "Only boxes count that cover at least this share of the picture.",
);
const ZONE: Key = Key::shown(
    "zone",
    "[[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]]",
    Expected::Words("three corners at least, [x, y] as shares of width and height from 0 to 1"),
    "Only boxes count whose middle lies in this part of the picture, points that lie in it, and of a mask what is in it: \
     corners [x, y] as shares of its width and height.",
);
const DWELL_S: Key = Key::shown(
    "dwell_s",
    "5.0",
    Expected::Words("seconds above 0, up to 86400"),
    "Only things count that have stayed so long, in the zone if there is one.",
);
const CROSSING: Key = Key::shown(
    "crossing",
    "[[0.1, 0.5], [0.9, 0.5]]",
    Expected::Words("two different points, [x, y] as shares of width and height from 0 to 1"),
    "A thing counts in the frame in which its middle crosses the line between these two points.",
);
const DIRECTION: Key = Key::shown(
    "direction",
    "\"down\"",
    Expected::OneOf(&["up", "down", "left", "right"]),
    "Which way it must cross that line; without it, either way.",
);
const HITS: Key = Key::set(
    "hits",
    "2",
    Expected::Words("a whole number from 1 to `frames`"),
    "So many of the last `frames` frames must reach the threshold.",
);
const FRAMES: Key = Key::set(
    "frames",
    "3",
    Expected::Words("a whole number from 1 to 64"),
    "How many frames `hits` looks back.",
);
const HOLD_MS: Key =
    Key::set("hold_ms", "500", Expected::Milliseconds(0), "The rule stays active for at least so long.");
const COOLDOWN_MS: Key =
    Key::set("cooldown_ms", "0", Expected::Milliseconds(0), "And inactive for at least so long afterwards.");
const MODE: Key = Key::set(
    "mode",
    "\"level\"",
    Expected::OneOf(&["level", "pulse", "toggle"]),
    "\"level\": on while active. \"pulse\": on for pulse_ms. \"toggle\": changes with each activity.",
);
const PULSE_MS: Key = Key::shown("pulse_ms", "200", Expected::Milliseconds(1), "Only for \"pulse\".");
const ARMED_BY: Key = Key::shown(
    "armed_by",
    "\"key\"",
    Expected::Words("the name of a valid [[input]]"),
    "The rule acts only while this input is active; otherwise it lets its lines go at once.",
);
const ACTIVE_HOURS: Key = Key::shown(
    "active_hours",
    "[\"08:00-18:00\", \"22:00-06:00\"]",
    Expected::Words("a list such as [\"08:00-18:00\", \"22:00-06:00\"]"),
    "The rule acts only at these times, by the board's local time. 22:00-06:00 belongs to the day that it begins on.",
);
const ACTIVE_DAYS: Key = Key::shown(
    "active_days",
    "[\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]",
    Expected::Words("a list of mon, tue, wed, thu, fri, sat, sun"),
    "And only on these days.",
);
const LINES: Key = Key::set(
    "lines",
    "[\"lamp\"]",
    Expected::Words("a list of names of lines"),
    "A line with several rules is on when one of them says so.",
);

pub(super) const RULE: Table = Table::set(
    "[[rule]]",
    "",
    &[
        NAME_OF_RULE,
        CLASSES,
        CAMERA,
        REGION_OF_RULE,
        THRESHOLD,
        COUNT,
        LEAST_SIZE,
        ZONE,
        DWELL_S,
        CROSSING,
        DIRECTION,
        HITS,
        FRAMES,
        HOLD_MS,
        COOLDOWN_MS,
        MODE,
        PULSE_MS,
        ARMED_BY,
        ACTIVE_HOURS,
        ACTIVE_DAYS,
        LINES,
    ],
);

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

/// Longest time that a thing must stay, in seconds: a day.
const LONGEST_STAY: f64 = 86_400.0;

/// A direction in a sentence.
fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "upwards",
        Direction::Down => "downwards",
        Direction::Left => "to the left",
        Direction::Right => "to the right",
    }
}

/// Two different ends of a line.
fn ends_of(value: &DeValue<'_>) -> Option<[[f32; 2]; 2]> {
    match value.as_array()?.iter().map(|end| corner_of(end.get_ref())).collect::<Vec<_>>()[..] {
        [Some(from), Some(to)] if from != to => Some([from, to]),
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
        let windows = self.optional(section, &ACTIVE_HOURS, |value| {
            let windows = patterns(value)?;
            let windows = windows.iter().map(|(text, _)| Window::parse(text)).collect::<Option<Vec<_>>>();
            windows.filter(|windows| !windows.is_empty())
        });
        let days = self.optional(section, &ACTIVE_DAYS, |value| {
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
        let camera = self.optional(section, &CAMERA, |value| {
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
        let listed = self.optional(section, &LINES, patterns).unwrap_or_default();
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
        let zone = self.optional(section, &ZONE, |value| {
            let corners = value.as_array()?.iter().map(|corner| corner_of(corner.get_ref()));
            corners
                .collect::<Option<Vec<[f32; 2]>>>()
                .filter(|corners| (3..=MOST_CORNERS).contains(&corners.len()))
        });
        let least_size = self.optional(section, &LEAST_SIZE, share);
        let span = section.span.clone();
        let count = self.optional(section, &COUNT, |value| {
            integer(value).filter(|count| (1..=1000).contains(count)).map(|count| count as usize)
        });
        let happening = self.happening(section);
        if let (Happening::Crosses(_), Some(count)) = (happening, count)
            && count > 1
        {
            let cause = "expected no `count` beside `crossing`: each thing crosses by itself, and is counted";
            self.mistake(&span, &section.key(COUNT.name), cause);
        }
        BoxCondition {
            zone: zone.unwrap_or_default(),
            least_size: least_size.unwrap_or(0.0),
            count: count.unwrap_or(1),
            happening,
            ..BoxCondition::default()
        }
    }

    /// What must happen to a thing: it stays, or it crosses a line.
    fn happening(&mut self, section: &mut Section<'_, 'i>) -> Happening {
        let span = section.span.clone();
        let dwell = self.optional(section, &DWELL_S, |value| {
            number(value).filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST_STAY)
        });
        let ends = self.optional(section, &CROSSING, ends_of);
        let direction = self.one_of(section, &DIRECTION);
        let direction = Direction::ALL.into_iter().find(|(name, _)| Some(*name) == direction);
        let direction = direction.map(|(_, direction)| direction);
        let Some(ends) = ends else {
            if let Some(direction) = direction {
                let cause =
                    format!("expected `crossing` beside it, the line that is crossed {}", way(direction));
                self.mistake(&span, &section.key(DIRECTION.name), cause);
            }
            return Happening::Stays(dwell.map_or(Duration::ZERO, Duration::from_secs_f64));
        };
        if dwell.is_some() {
            let cause = "expected `dwell_s` or `crossing`, not both: a thing stays, or it crosses";
            self.mistake(&span, &section.key(DWELL_S.name), cause);
        }
        let line = Crossing { ends, direction };
        if let Some(direction) = direction.filter(|_| !line.is_possible()) {
            let cause = format!("expected another direction: nothing goes {} over this line", way(direction));
            self.mistake(&span, &section.key(DIRECTION.name), cause);
        }
        Happening::Crosses(line)
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
        let name = self.required(&mut section, &NAME_OF_RULE, text);
        let written = self.required(&mut section, &CLASSES, class_patterns).unwrap_or_default();
        let threshold = self.optional(&mut section, &THRESHOLD, |value| {
            number(value).filter(|threshold| *threshold > 0.0 && *threshold <= 1.0)
        });
        let boxes = self.boxes(&mut section);
        let count = |value: &DeValue<'_>| {
            integer(value).filter(|count| (1..=MAX_FRAMES as i64).contains(count)).map(|count| count as usize)
        };
        let frames = self.optional(&mut section, &FRAMES, count).unwrap_or(1);
        let hits = self.optional(&mut section, &HITS, |value| count(value).filter(|hits| *hits <= frames));
        let hold = self.duration(&mut section, &HOLD_MS).unwrap_or_default();
        let cooldown = self.duration(&mut section, &COOLDOWN_MS).unwrap_or_default();
        let mode = match self.one_of(&mut section, &MODE) {
            Some("pulse") => {
                let length = self.required(&mut section, &PULSE_MS, |value| milliseconds(value, &PULSE_MS));
                Mode::Pulse(length.unwrap_or_default())
            }
            Some("toggle") => Mode::Toggle,
            _ => Mode::Level,
        };
        let span = section.span.clone();
        let indices = self.lines_of(&mut section, lines);
        let armed_by = self.optional(&mut section, &ARMED_BY, |value| {
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
