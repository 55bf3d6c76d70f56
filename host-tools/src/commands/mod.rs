//! One module per subcommand: its arguments and what it prints.

pub(crate) mod analyze;
pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod fetch;
mod gate;
pub(crate) mod inspect;
pub(crate) mod keygen;
mod network;
mod pictures;
pub(crate) mod quantize;
pub(crate) mod references;
pub(crate) mod report;
pub(crate) mod sign;
pub(crate) mod synth;
pub(crate) mod teach;
pub(crate) mod thresholds;
mod tiles;
pub(crate) mod verify;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use resight_base::console::{print, print_line};
use serde::Serialize;

/// Prints `value` as JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print_line(format_args!("{}", serde_json::to_string_pretty(value)?))?;
    Ok(())
}

/// A figure as a table shows it; a dash where there is none.
pub(crate) fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Writes a table to standard output: the first column is aligned left, the others right.
pub(crate) fn print_table(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let columns = header.len();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut table = String::new();
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let cell = if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            line.push_str(&cell);
        }
        table += line.trim_end();
        table.push('\n');
    }
    print(format_args!("{table}"))?;
    Ok(())
}

/// Progress bars on standard error, one per phase; silent when that is not a terminal.
pub(crate) struct Bars(Mutex<Option<(String, ProgressBar)>>);

impl Bars {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Shows `done` of `total` of a phase.
    pub(crate) fn update(&self, phase: &str, done: usize, total: usize) {
        // A poisoned lock means that a worker panicked while drawing: the bar still works.
        let mut current = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.as_ref().is_none_or(|(name, _)| name != phase) {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(8));
            // The template is a constant that the tests run.
            if let Ok(style) = ProgressStyle::with_template("{msg:20} [{bar:30}] {pos}/{len} {eta}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(phase.to_owned());
            *current = Some((phase.to_owned(), bar));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set_length(total as u64);
            bar.set_position(bar.position().max(done as u64));
        }
    }

    /// Removes the last bar.
    pub(crate) fn finish(&self) {
        let mut current = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, bar)) = current.take() {
            bar.finish_and_clear();
        }
    }
}

/// `1.2 s`, `350 ms`.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.as_secs() > 0 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

/// `25.7 MB`, with a million bytes to the megabyte.
pub(crate) fn megabytes(bytes: u64) -> String {
    if bytes >= 100_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} kB", bytes as f64 / 1e3)
    }
}

/// Time since `start`, for the summary line.
pub(crate) fn took(start: Instant) -> String {
    seconds(start.elapsed())
}
