//! `[pace]`: how often the network runs.

use std::time::Duration;

use toml::de::DeValue;

use super::key::{Expected, Key, Table};
use super::reader::{Reader, Section, number};
use crate::pace::{Limit, PaceConfig};

const RATE: Key = Key::shown(
    "rate",
    "10.0",
    Expected::Depends("inferences per second, above {} (two in safety.stale_ms), up to 1000", "1.000"),
    "Most inferences per second.",
);
const DUTY: Key = Key::shown(
    "duty",
    "0.5",
    Expected::Words("a share of the time, 0.001 to 1"),
    "Largest share of the time that is spent computing.",
);
const THERMAL: Key = Key::shown(
    "thermal",
    "[[75.0, 5.0], [82.0, 1.0]]",
    Expected::Depends(
        "a list of [degrees Celsius, inferences per second], the first rising, the second above {}",
        "1.000",
    ),
    "From each temperature on (degrees Celsius, the hottest of the board's sensors), so many inferences per second.",
);
const HYSTERESIS: Key = Key::shown(
    "hysteresis",
    "3.0",
    Expected::Words("degrees Celsius, 0 to 50"),
    "A limit ends so many degrees below its temperature.",
);
const ON_CHANGE: Key = Key::shown(
    "on_change",
    "true",
    Expected::Boolean,
    "Only frames that show something new are classified; for the others the last scores are judged again. What noise \
     does is learnt. A change of a 20th of the picture is seen.",
);
const REFRESH_MS: Key = Key::shown(
    "refresh_ms",
    "5000",
    Expected::Milliseconds(100),
    "With on_change, one frame at least in so many milliseconds is classified all the same.",
);

pub(super) const PACE: Table = Table::set(
    "[pace]",
    "How often the network runs: as often as frames come, unless told otherwise.",
    &[RATE, DUTY, THERMAL, HYSTERESIS, ON_CHANGE, REFRESH_MS],
);

/// How often a still scene is classified all the same.
const REFRESH: Duration = Duration::from_secs(5);

impl<'i> Reader<'i> {
    /// Rates below what `stale` asks for are refused: the lines would go to their safe levels
    /// between two frames.
    pub(super) fn pace(&mut self, mut section: Section<'_, 'i>, stale: Duration) -> PaceConfig {
        let default = PaceConfig::default();
        let least = 2.0 / stale.as_secs_f64();
        let rate = |value: &DeValue<'_>| number(value).filter(|rate| *rate > least && *rate <= 1000.0);
        let bound = format!("{least:.3}");
        let wanted = self.optional_within(&mut section, &RATE, &bound, rate);
        let duty = self
            .optional(&mut section, &DUTY, |value| number(value).filter(|duty| (0.001..=1.0).contains(duty)));
        let limits = self.optional_within(&mut section, &THERMAL, &bound, |value| {
            let limit = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref().as_array()?.as_ref() {
                [above, limit] => {
                    let above = number(above.get_ref()).filter(|degrees| degrees.is_finite())?;
                    Some(Limit { above, rate: rate(limit.get_ref())? })
                }
                _ => None,
            };
            let limits = value.as_array()?.iter().map(limit).collect::<Option<Vec<_>>>()?;
            limits.windows(2).all(|pair| pair[0].above < pair[1].above).then_some(limits)
        });
        let hysteresis = self.optional(&mut section, &HYSTERESIS, |value| {
            number(value).filter(|degrees| (0.0..=50.0).contains(degrees))
        });
        let on_change = self.flag(&mut section, &ON_CHANGE);
        let refresh = self.duration(&mut section, &REFRESH_MS).unwrap_or(REFRESH);
        self.finish(&section);
        PaceConfig {
            rate: wanted,
            duty: duty.unwrap_or(default.duty),
            limits: limits.unwrap_or_default(),
            hysteresis: hysteresis.unwrap_or(default.hysteresis),
            on_change: on_change.unwrap_or(false).then_some(refresh),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::config::reader::Mistake;

    fn parse(pace: &str) -> Result<PaceConfig, Vec<Mistake>> {
        let text =
            format!("[model]\nfile = \"m\"\n[source]\nkind = \"mjpeg\"\npath = \"a\"\n[pace]\n{pace}\n");
        let config = Config::parse(&text, Path::new(""));
        config.map(|config| config.cameras[0].pace.clone())
    }

    #[test]
    fn what_would_wait_for_ever_is_refused() {
        let pace = parse("rate = 10\nduty = 0.001\nthermal = [[70, 5], [80.5, 1.5]]").unwrap();
        assert_eq!((pace.rate, pace.duty, pace.limits.len()), (Some(10.0), 0.001, 2));
        assert_eq!((pace.on_change, parse("on_change = true").unwrap().on_change), (None, Some(REFRESH)));
        let refresh = parse("on_change = true\nrefresh_ms = 900").unwrap().on_change;
        assert_eq!(refresh, Some(Duration::from_millis(900)));
        for (text, expected) in [
            ("rate = 1", "7: pace.rate: expected inferences per second, above 1.000"),
            ("rate = nan", "7: pace.rate: expected"),
            // An inference divided by it would be no time any more.
            ("duty = 1e-300", "7: pace.duty: expected a share of the time, 0.001 to 1"),
            ("duty = nan", "7: pace.duty: expected"),
            ("thermal = [[80, 5], [70, 2]]", "7: pace.thermal: expected"),
            ("thermal = [[nan, 5]]", "7: pace.thermal: expected"),
            ("thermal = [[80, 0.1]]", "7: pace.thermal: expected"),
            ("hysteresis = inf", "7: pace.hysteresis: expected"),
        ] {
            let found = parse(text).unwrap_err()[0].to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
