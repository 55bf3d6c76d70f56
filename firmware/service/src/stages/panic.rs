//! What a panic does to the wires.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::ending::Ending;
use crate::threads::{is_caught, said};

/// Runs a vital thread's work to its end. A panic that came from another thread, which computes for
/// this one, has not met the hook here: it seals the lines now.
pub(crate) fn vital<T>(ending: &Ending, work: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => {
            ending.fail();
            panic::resume_unwind(payload)
        }
    }
}

/// Before the message of a panic, and before an abort: the safe levels.
pub(crate) fn make_safe_on_panic(ending: &Arc<Ending>) {
    let ending = ending.clone();
    panic::set_hook(Box::new(move |information| {
        if !is_caught() || cfg!(panic = "abort") {
            ending.fail();
        }
        // By the log, which waits for nobody, and not by the usual hook, which writes here and now.
        log::error!("{}", message(information));
    }));
}

fn message(information: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = information.location().map_or_else(String::new, |place| format!(" at {place}"));
    let mut text = format!("thread {name} panicked{place}: {}", said(information.payload()));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{trace}");
    }
    text
}

#[cfg(test)]
#[path = "panic_tests.rs"]
mod tests;
