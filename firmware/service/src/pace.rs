//! How often the network runs: the wanted rate, the duty cycle, the temperature.
//!
//! Pure: times and temperatures are passed in.

use std::time::Duration;

/// What limits the rate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PaceConfig {
    /// Most inferences per second.
    pub(crate) rate: Option<f64>,
    /// Largest share of the time that is spent computing, above 0, up to 1.
    pub(crate) duty: f64,
    /// In the order of their temperatures.
    pub(crate) limits: Vec<Limit>,
    /// How far below its temperature a limit ends, degrees Celsius.
    pub(crate) hysteresis: f64,
    /// Only frames that show something new are classified, and one at least in each such time.
    pub(crate) on_change: Option<Duration>,
}

impl Default for PaceConfig {
    fn default() -> Self {
        Self { rate: None, duty: 1.0, limits: vec![], hysteresis: 3.0, on_change: None }
    }
}

/// A rate that holds from a temperature on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    /// Degrees Celsius.
    pub(crate) above: f64,
    /// Inferences per second.
    pub(crate) rate: f64,
}

/// The limits with their state.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    config: PaceConfig,
    /// How many of the limits hold.
    reached: usize,
}

impl Pace {
    pub(crate) fn new(config: PaceConfig) -> Self {
        Self { config, reached: 0 }
    }

    /// Takes a temperature, degrees Celsius. `true` if other limits hold from now on.
    pub(crate) fn temperature(&mut self, celsius: f64) -> bool {
        let before = self.reached;
        let limits = &self.config.limits;
        while limits.get(self.reached).is_some_and(|next| celsius >= next.above) {
            self.reached += 1;
        }
        while self.reached > 0 && celsius < limits[self.reached - 1].above - self.config.hysteresis {
            self.reached -= 1;
        }
        self.reached != before
    }

    /// The lowest rate of the limits that hold.
    pub(crate) fn limit(&self) -> Option<f64> {
        self.config.limits[..self.reached].iter().map(|limit| limit.rate).min_by(f64::total_cmp)
    }

    /// From the start of an inference, which took `took`, to the start of the next.
    pub(crate) fn interval(&self, took: Duration) -> Duration {
        let rate = self.config.rate.into_iter().chain(self.limit()).min_by(f64::total_cmp);
        let by_rate = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        by_rate.max(took.div_f64(self.config.duty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        let limits = vec![Limit { above: 70.0, rate: 5.0 }, Limit { above: 80.0, rate: 1.0 }];
        Pace::new(PaceConfig { limits, ..PaceConfig::default() })
    }

    #[test]
    fn limits_come_and_go_with_hysteresis() {
        let mut pace = pace();
        let steps = [
            (69.9, None),
            (70.0, Some(5.0)),
            (67.1, Some(5.0)),
            (80.5, Some(1.0)),
            (77.0, Some(1.0)),
            (76.9, Some(5.0)),
            (66.9, None),
            (95.0, Some(1.0)),
            (20.0, None),
        ];
        let mut before = None;
        for (celsius, expected) in steps {
            assert_eq!(pace.temperature(celsius), expected != before, "{celsius}");
            assert_eq!(pace.limit(), expected, "{celsius}");
            before = expected;
        }
    }

    #[test]
    fn the_slowest_limit_counts() {
        let ms = Duration::from_millis;
        assert_eq!(Pace::default().interval(ms(30)), ms(30));
        let config = PaceConfig { rate: Some(10.0), duty: 0.25, ..pace().config };
        let mut pace = Pace::new(config);
        assert_eq!(pace.interval(ms(10)), ms(100));
        assert_eq!(pace.interval(ms(40)), ms(160));
        pace.temperature(75.0);
        assert_eq!(pace.interval(ms(10)), ms(200));
        // A limit that is faster than the wanted rate changes nothing.
        let fast = PaceConfig { rate: Some(0.5), ..pace.config };
        pace = Pace { config: fast, reached: 2 };
        assert_eq!(pace.interval(ms(10)), ms(2000));
    }
}
