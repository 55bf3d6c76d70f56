//! Everything that the service counts and measures, in one registry without locks.
//!
//! Whoever counts something holds the registry and adds to a field of it; `/status` and `/metrics`
//! are made from the registry's lists. A new number is one line in [`registry`]'s lists below: of the
//! service as a whole, or of each camera.

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::histogram::{Histogram, Times};

/// Something that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// One more. Gives how many there were before.
    pub(crate) fn one_more(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that is as it is now: a number of things, or 1 for yes and 0 for no.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, if there are fewer than `most`.
    pub(crate) fn raise_below(&self, most: u64) -> bool {
        let more = |value: u64| (value < most).then_some(value + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// One less. Gives how many are left.
    pub(crate) fn lower(&self) -> u64 {
        self.0.fetch_sub(1, Ordering::SeqCst) - 1
    }

    /// Whether it is not 0.
    pub(crate) fn is_set(&self) -> bool {
        self.value() != 0
    }
}

/// A measured quantity; unknown until it is measured.
#[derive(Debug)]
pub(crate) struct Measure(AtomicU64);

impl Default for Measure {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl Measure {
    pub(crate) fn set(&self, value: Option<f64>) {
        self.0.store(value.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|value| !value.is_nan())
    }
}

/// A member of the registry: its name, what it means, and itself; what is measured of each camera is
/// there once for each.
pub(crate) struct Entry<'a, T> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) values: Values<'a, T>,
}

/// Where the values of an entry are.
pub(crate) enum Values<'a, T> {
    /// One of the service as a whole.
    One(&'a T),
    /// One of each camera, in their order.
    Each(Vec<&'a T>),
}

impl<'a, T> Values<'a, T> {
    /// Those that there are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a T> {
        let (one, each) = match self {
            Self::One(one) => (Some(*one), &[][..]),
            Self::Each(each) => (None, each.as_slice()),
        };
        one.into_iter().chain(each.iter().copied())
    }
}

/// The registry as a whole, for those who show it.
pub(crate) struct Registry<'a> {
    pub(crate) service: &'a Telemetry,
    pub(crate) cameras: Vec<&'a CameraTelemetry>,
}

impl<'a> Registry<'a> {
    fn one<T>(name: &'static str, help: &'static str, value: &'a T) -> Entry<'a, T> {
        Entry { name, help, values: Values::One(value) }
    }

    fn each<T>(
        &self,
        name: &'static str,
        help: &'static str,
        of: impl Fn(&'a CameraTelemetry) -> &'a T,
    ) -> Entry<'a, T> {
        Entry { name, help, values: Values::Each(self.cameras.iter().map(|camera| of(camera)).collect()) }
    }
}

// The two groups of each list come twice, because this is the order in which everything is shown.
macro_rules! registry {
    ($($list:ident: $kind:ty {
        camera { $($a:ident $a_help:literal)* }
        service { $($b:ident $b_help:literal)* }
        camera { $($c:ident $c_help:literal)* }
        service { $($d:ident $d_help:literal)* }
    })*) => {
        /// What the service as a whole counts and measures; the meanings are in the lists.
        #[derive(Debug, Default)]
        pub(crate) struct Telemetry {
            $($(pub(crate) $b: $kind,)* $(pub(crate) $d: $kind,)*)*
        }

        /// What is counted and measured of one camera.
        #[derive(Debug, Default)]
        pub(crate) struct CameraTelemetry {
            $($(pub(crate) $a: $kind,)* $(pub(crate) $c: $kind,)*)*
        }

        impl<'a> Registry<'a> {
            $(
                pub(crate) fn $list(&self) -> Vec<Entry<'a, $kind>> {
                    vec![
                        $(self.each(stringify!($a), $a_help, |camera| &camera.$a),)*
                        $(Self::one(stringify!($b), $b_help, &self.service.$b),)*
                        $(self.each(stringify!($c), $c_help, |camera| &camera.$c),)*
                        $(Self::one(stringify!($d), $d_help, &self.service.$d),)*
                    ]
                }
            )*
        }
    };
}

registry! {
    counters: Counter {
        camera {
            frames "Frames that came from the source."
            dropped "Frames replaced by newer ones before they were classified."
            corrupt "Frames that could not be decoded."
            source_errors "Failures of the source."
            inferences "Frames classified."
            inference_errors "Frames that the network refused."
        }
        service {
            events "Events."
            events_lost "Events that nobody read in time."
            line_errors "Failed writes to lines, and attempts to open them again."
            lines_restored "Lines that were taken away and opened again."
        }
        camera {
            stale_periods "Times that frames stopped coming."
        }
        service {
            reloads "Configurations applied while running."
            reloads_refused "Configurations refused while running."
            stdout_dropped "Events dropped because standard output took none."
            socket_dropped "Events that a slow reader of the socket missed."
            socket_disconnected "Readers of the socket that took nothing and were disconnected."
            socket_refused "Readers of the socket that were one too many."
            snapshots_written "Snapshots."
            snapshots_dropped "Snapshots dropped because the disk was too slow."
            snapshot_errors "Snapshots that could not be written."
            mqtt_dropped "Events dropped because the broker took none."
            mqtt_errors "Failures of the connection to the broker."
            http_requests "Requests over HTTP that were answered."
            http_unauthorised "Requests over HTTP without the token or the password, for a foreign host or by a foreign page."
            http_refused "Connections over HTTP that were one too many."
            http_missed "Events that a slow viewer over HTTP missed."
            http_switched "Switches of dry run and of rules over HTTP."
            http_errors "Connections over HTTP that were too slow, too long or broken."
        }
    }
    occasional: Counter {
        camera {
            unchanged "Frames that showed nothing new, for which the last scores were judged again."
        }
        service {}
        camera {}
        service {}
    }
    gauges: Gauge {
        camera {
            source_up "Whether the source is open and has given a frame."
        }
        service {
            socket_readers "Readers of the socket."
            mqtt_connected "Whether the broker is connected."
            http_connections "Connections over HTTP."
            viewers "Viewers over HTTP."
        }
        camera {}
        service {}
    }
    flags: Gauge {
        camera {}
        service {
            dry_run "Whether lines stay at their safe levels, whatever the rules say."
        }
        camera {
            stale "Whether frames have stopped coming."
        }
        service {}
    }
    measures: Measure {
        camera {}
        service {
            temperature_celsius "Of the hottest sensor; NaN where there is none."
        }
        camera {}
        service {}
    }
    histograms: Histogram {
        camera {
            latency "From a frame's arrival until the lines show it."
            line_write "From the decision of the rules until the last line that changed is written."
            inference "Preprocessing and network."
        }
        service {}
        camera {}
        service {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_listed_once_under_its_name_and_for_each_camera() {
        let (service, cameras) = (Telemetry::default(), [(); 2].map(|()| CameraTelemetry::default()));
        cameras[1].corrupt.add(3);
        assert_eq!(cameras[1].corrupt.one_more(), 3);
        service.events.one_more();
        let registry = Registry { service: &service, cameras: cameras.iter().collect() };
        let counts =
            |entry: &Entry<'_, Counter>| -> Vec<u64> { entry.values.iter().map(Counter::count).collect() };
        let counters = registry.counters();
        let counted: Vec<_> = counters
            .iter()
            .map(|entry| (entry.name, counts(entry)))
            .filter(|(_, counts)| counts.iter().any(|count| *count > 0))
            .collect();
        assert_eq!(counted, [("corrupt", vec![0, 4]), ("events", vec![1])]);
        let mut names: Vec<&str> = counters.iter().map(|entry| entry.name).collect();
        names.extend(registry.gauges().iter().map(|entry| entry.name));
        names.extend(registry.flags().iter().map(|entry| entry.name));
        names.extend(registry.histograms().iter().map(|entry| entry.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_measure_is_unknown_until_it_is_measured() {
        let measure = Measure::default();
        assert_eq!(measure.value(), None);
        measure.set(Some(-3.5));
        assert_eq!(measure.value(), Some(-3.5));
        measure.set(None);
        assert_eq!(measure.value(), None);
    }
}
