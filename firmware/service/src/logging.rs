//! The log: `env_logger`, with journal levels under systemd and a limit on what repeats.

use std::fmt::{Arguments, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use env_logger::{Builder, Env, Logger, Target, WriteStyle};
use log::{Level, Log, Metadata, Record};
use rustix::fs::fstat;

use crate::log_queue::{LogQueue, Pipe};
use crate::sync::lock;

/// Messages of one call site within one interval; the rest is left out.
const BURST: u32 = 20;

/// The first interval. Each one in which something was left out makes the next one twice as long.
const INTERVAL: Duration = Duration::from_secs(10);

/// The longest interval.
const MAX_INTERVAL: Duration = Duration::from_mins(10);

/// Call sites that are watched; the program has fewer, and what does not fit is not limited.
const SITES: usize = 256;

/// What waits for standard error; without it, messages are written where they arise.
static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// Starts logging to standard error. `RUST_LOG` chooses what; information and worse by default.
pub(crate) fn start() {
    let mut builder = Builder::from_env(Env::default().default_filter_or("info"));
    if is_journal() {
        builder.format(|buffer, record| {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = write!(text, "{}", record.args());
            text.lines().try_for_each(|line| {
                writeln!(buffer, "<{}>{}: {line}", priority(record.level()), record.target())
            })
        });
    }
    // Without room for a thread, whoever logs writes itself.
    if let Ok(queue) = LogQueue::start(io::stderr()) {
        let plain = ["NO_COLOR", "RUST_LOG_STYLE"].iter().any(|name| std::env::var_os(name).is_some());
        if io::stderr().is_terminal() && !plain {
            builder.write_style(WriteStyle::Always);
        }
        let queue = QUEUE.get_or_init(|| queue);
        builder.target(Target::Pipe(Box::new(Pipe(queue.clone()))));
    }
    let logger = builder.build();
    log::set_max_level(logger.filter());
    let limited = Limited { logger, sites: Mutex::new(Sites::new()) };
    if log::set_boxed_logger(Box::new(limited)).is_err() {
        unreachable!("the log is started once");
    }
}

/// Shows why the program ends.
pub(crate) fn fatal(message: Arguments<'_>) {
    let message = if is_journal() {
        message.to_string().lines().map(|line| format!("<3>resightd: {line}\n")).collect()
    } else {
        format!("resightd: {message}\n")
    };
    match QUEUE.get() {
        Some(queue) => {
            queue.push(message.into_bytes());
            queue.flush();
        }
        // Nobody is left to tell of a failure.
        None => drop(io::stderr().write_all(message.as_bytes())),
    }
}

/// Whether standard error is the journal's: systemd names its device and inode.
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Some((device, inode)) = named.split_once(':') else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else { return false };
    fstat(io::stderr()).is_ok_and(|status| status.st_dev == device && status.st_ino == inode)
}

/// syslog's numbers, as `sd-daemon` defines the prefixes.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A logger that leaves out what repeats too often.
struct Limited {
    logger: Logger,
    sites: Mutex<Sites>,
}

impl Log for Limited {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.logger.matches(record) {
            return;
        }
        // Whoever asks for details wants them all.
        let key = match (record.level(), record.file_static(), record.line()) {
            (Level::Error | Level::Warn | Level::Info, Some(file), Some(line)) => (file, line),
            _ => return self.logger.log(record),
        };
        let mut sites = lock(&self.sites);
        let now = Instant::now();
        sites.sweep(now, |site| self.report(site));
        let passes = sites.admit(key, record.level(), now);
        drop(sites);
        if passes {
            self.logger.log(record);
        }
    }

    /// Says what was left out so far.
    fn flush(&self) {
        let mut sites = lock(&self.sites);
        for site in sites.0.iter_mut().flatten().filter(|site| site.left_out > 0) {
            self.report(site);
            site.left_out = 0;
        }
        self.logger.flush();
        if let Some(queue) = QUEUE.get() {
            // Other threads may log meanwhile.
            drop(sites);
            queue.flush();
        }
    }
}

impl Limited {
    fn report(&self, site: &Site) {
        let (count, (file, line), seconds) = (site.left_out, site.key, site.since.elapsed().as_secs());
        let mut record = Record::builder();
        record.level(site.level).target(module_path!());
        self.logger.log(
            &record
                .args(format_args!(
                    "{count} more messages of {file}:{line} were left out in the last {seconds} s"
                ))
                .build(),
        );
    }
}

/// A place in the program that logs.
struct Site {
    key: (&'static str, u32),
    level: Level,
    /// The beginning of the interval.
    since: Instant,
    interval: Duration,
    count: u32,
    left_out: u32,
}

impl Site {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.interval
    }

    /// Begins the next interval.
    fn renew(&mut self, now: Instant) {
        self.interval = if self.left_out > 0 { (self.interval * 2).min(MAX_INTERVAL) } else { INTERVAL };
        (self.since, self.count, self.left_out) = (now, 0, 0);
    }
}

/// A hash table of fixed size: nothing is allocated later, and nothing is forgotten.
struct Sites(Box<[Option<Site>]>);

impl Sites {
    fn new() -> Self {
        Self((0..SITES).map(|_| None).collect())
    }

    /// Whether a message may pass.
    fn admit(&mut self, key: (&'static str, u32), level: Level, now: Instant) -> bool {
        let start = key.1 as usize + key.0.len();
        for probe in 0..SITES {
            let entry = &mut self.0[(start + probe) % SITES];
            if entry.as_ref().is_some_and(|site| site.key != key) {
                continue;
            }
            let site = entry.get_or_insert(Site {
                key,
                level,
                since: now,
                interval: INTERVAL,
                count: 0,
                left_out: 0,
            });
            if site.is_over(now) {
                site.renew(now);
            }
            site.count += 1;
            let passes = site.count <= BURST;
            site.left_out += u32::from(!passes);
            return passes;
        }
        true
    }

    /// Reports and renews the sites whose interval is over and that left something out.
    fn sweep(&mut self, now: Instant, mut report: impl FnMut(&Site)) {
        for site in self.0.iter_mut().flatten().filter(|site| site.left_out > 0 && site.is_over(now)) {
            report(site);
            site.renew(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: (&str, u32) = ("src/here.rs", 7);

    fn passed(sites: &mut Sites, key: (&'static str, u32), now: Instant, count: u32) -> u32 {
        (0..count).map(|_| u32::from(sites.admit(key, Level::Warn, now))).sum()
    }

    #[test]
    fn what_repeats_is_left_out_and_counted() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sites = Sites::new();
        assert_eq!(passed(&mut sites, HERE, start, 100), BURST);
        // Another line is another matter, even where the table has no room beside the first.
        assert_eq!(passed(&mut sites, ("src/here.rs", 7 + SITES as u32), start, 5), 5);
        let mut reports = vec![];
        sites.sweep(at(9), |site| reports.push((site.key, site.left_out)));
        assert!(reports.is_empty());
        sites.sweep(at(10), |site| reports.push((site.key, site.left_out)));
        assert_eq!(reports, [(HERE, 100 - BURST)]);
        // It goes on, so the next interval is longer, up to the longest.
        assert_eq!(passed(&mut sites, HERE, at(10), 100), BURST);
        assert_eq!(passed(&mut sites, HERE, at(29), 100), 0);
        let mut now = at(30);
        for _ in 0..20 {
            sites.sweep(now, |_| ());
            assert_eq!(passed(&mut sites, HERE, now, 30), BURST);
            now += MAX_INTERVAL;
        }
        // Once it was quiet, everything is as in the beginning.
        sites.sweep(now, |_| ());
        now += MAX_INTERVAL;
        assert_eq!(passed(&mut sites, HERE, now, 30), BURST);
        assert_eq!(passed(&mut sites, HERE, now + INTERVAL, 30), BURST);
    }

    #[test]
    fn a_full_table_limits_nothing() {
        let mut sites = Sites::new();
        let now = Instant::now();
        for line in 0..SITES as u32 {
            assert_eq!(passed(&mut sites, ("a", line), now, 1), 1);
        }
        assert_eq!(passed(&mut sites, ("b", 1), now, 100), 100);
    }
}
