//! `[pace]`: how often the network runs.

use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Reader, Section, number};
use crate::pace::{Limit, PaceConfig};

impl<'i> Reader<'i> {
    /// Rates below what `stale` asks for are refused: the lines would go to their safe levels
    /// between two frames.
    pub(super) fn pace(&mut self, mut section: Section<'_, 'i>, stale: Duration) -> PaceConfig {
        let default = PaceConfig::default();
        let least = 2.0 / stale.as_secs_f64();
        let rate = |value: &DeValue<'_>| number(value).filter(|rate| *rate > least && *rate <= 1000.0);
        let expected =
            format!("inferences per second, above {least:.3} (two in safety.stale_ms), up to 1000");
        let wanted = self.optional(&mut section, "rate", &expected, rate);
        let duty = self.optional(&mut section, "duty", "a share of the time above 0, up to 1", |value| {
            number(value).filter(|duty| *duty > 0.0 && *duty <= 1.0)
        });
        let expected = format!(
            "a list of [degrees Celsius, inferences per second], the first rising, the second above {least:.3}"
        );
        let limits = self.optional(&mut section, "thermal", &expected, |value| {
            let limit = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref().as_array()?.as_ref() {
                [above, limit] => {
                    Some(Limit { above: number(above.get_ref())?, rate: rate(limit.get_ref())? })
                }
                _ => None,
            };
            let limits = value.as_array()?.iter().map(limit).collect::<Option<Vec<_>>>()?;
            limits.windows(2).all(|pair| pair[0].above < pair[1].above).then_some(limits)
        });
        let hysteresis = self.optional(&mut section, "hysteresis", "degrees Celsius, 0 to 50", |value| {
            number(value).filter(|degrees| (0.0..=50.0).contains(degrees))
        });
        self.finish(&section);
        PaceConfig {
            rate: wanted,
            duty: duty.unwrap_or(default.duty),
            limits: limits.unwrap_or_default(),
            hysteresis: hysteresis.unwrap_or(default.hysteresis),
        }
    }
}
