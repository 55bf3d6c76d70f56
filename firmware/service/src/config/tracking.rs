//! `[tracking]`: how things are followed from frame to frame.

use super::key::{Expected, Key, Table};
use super::reader::{Reader, Section, integer, number};
use crate::judge::Tracking;

const SCORE: Key = Key::set(
    "score",
    "0.5",
    Expected::Words("a score above 0, up to 1"),
    "The score that a box must have for something new to be followed; boxes below it only go on with what is.",
);
const HITS: Key = Key::set(
    "hits",
    "3",
    Expected::Words("a whole number of frames from 1 to 64"),
    "In so many frames, one after another, something must be seen before it has a number.",
);
const LOST_MS: Key = Key::set(
    "lost_ms",
    "1000",
    Expected::Milliseconds(0),
    "Something may be out of sight for so long and still be the same.",
);

pub(super) const TRACKING: Table = Table::set(
    "[tracking]",
    "How things are followed from frame to frame, of a network that finds boxes: what has a number, `dwell_s`, \
     `crossing` and counts go by it.",
    &[SCORE, HITS, LOST_MS],
);

impl<'i> Reader<'i> {
    pub(super) fn tracking(&mut self, mut section: Section<'_, 'i>) -> Tracking {
        let default = Tracking::default();
        let score = self.optional(&mut section, &SCORE, |value| {
            number(value).filter(|score| *score > 0.0 && *score <= 1.0)
        });
        let hits = self.optional(&mut section, &HITS, |value| {
            integer(value).filter(|hits| (1..=64).contains(hits)).map(|hits| hits as u32)
        });
        let lost = self.duration(&mut section, &LOST_MS);
        self.finish(&section);
        Tracking {
            score: score.map_or(default.score, |score| score as f32),
            hits: hits.unwrap_or(default.hits),
            lost: lost.unwrap_or(default.lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::config::Config;
    use crate::config::reader::Mistake;
    use crate::judge::{Crossing, Direction, Happening, Tracking};

    const LEAST: &str = "[model]\nfile = \"m\"\n[source]\nkind = \"mjpeg\"\npath = \"a\"\n";

    fn parse(rest: &str) -> Result<Config, Vec<Mistake>> {
        Config::parse(&format!("{LEAST}{rest}"), Path::new(""))
    }

    #[test]
    fn things_are_followed_as_it_says_and_rules_wait_for_them_as_long() {
        let rule = "[[rule]]\nname = \"r\"\nclasses = [\"b\"]\ndwell_s = 2.5\n";
        let config = parse(&format!("[tracking]\nscore = 0.25\nhits = 1\nlost_ms = 400\n{rule}")).unwrap();
        let lost = Duration::from_millis(400);
        assert_eq!(config.tracking, Tracking { score: 0.25, hits: 1, lost });
        let boxes = &config.rules[0].rule.boxes;
        assert_eq!((boxes.patience, boxes.happening), (lost, Happening::Stays(Duration::from_millis(2500))));
        assert_eq!(parse(rule).unwrap().tracking, Tracking::default());
    }

    #[test]
    fn a_line_is_two_points_and_a_direction() {
        let rule = |rest: &str| format!("[[rule]]\nname = \"r\"\nclasses = [\"b\"]\n{rest}");
        let line = "crossing = [[0.1, 0.5], [0.9, 0.5]]\n";
        let config = parse(&rule(&format!("{line}direction = \"down\"\n"))).unwrap();
        let crossing = Crossing { ends: [[0.1, 0.5], [0.9, 0.5]], direction: Some(Direction::Down) };
        assert_eq!(config.rules[0].rule.boxes.happening, Happening::Crosses(crossing));
        let table = [
            (
                "crossing = [[0.1, 0.5], [0.1, 0.5]]\n",
                "9: rule.crossing: expected two different points, [x, y]",
            ),
            ("crossing = [[0.1, 0.5]]\n", "9: rule.crossing: expected two different points, [x, y]"),
            (
                "crossing = [[0.1, 0.5], [0.2, 1.5]]\n",
                "9: rule.crossing: expected two different points, [x, y]",
            ),
            (
                "direction = \"up\"\n",
                "6: rule.direction: expected `crossing` beside it, the line that is crossed upwards",
            ),
            (
                "direction = \"north\"\n",
                "9: rule.direction: expected \"up\", \"down\", \"left\" or \"right\", found",
            ),
            (
                &format!("{line}direction = \"left\"\n"),
                "6: rule.direction: expected another direction: nothing goes to the left over this line",
            ),
            (
                &format!("{line}dwell_s = 1.0\n"),
                "6: rule.dwell_s: expected `dwell_s` or `crossing`, not both",
            ),
            (&format!("{line}count = 2\n"), "6: rule.count: expected no `count` beside `crossing`"),
            ("dwell_s = 0\n", "9: rule.dwell_s: expected seconds above 0, up to 86400, found `0`"),
        ];
        for (text, expected) in table {
            let found = parse(&rule(text)).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "`{found}`, not `{expected}`");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("score = 0.0", "7: tracking.score: expected a score above 0, up to 1, found `0.0`"),
            ("hits = 65", "7: tracking.hits: expected a whole number of frames from 1 to 64, found `65`"),
            ("lost_ms = -1", "7: tracking.lost_ms: expected milliseconds"),
            ("speed = 1", "7: tracking.speed: unknown key; expected one of: score, hits, lost_ms"),
        ];
        for (line, expected) in table {
            let found = parse(&format!("[tracking]\n{line}\n")).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "`{found}`, not `{expected}`");
        }
    }
}
