//! How the service ends: by a signal, a panic, or the end of the frames.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::lines::Lines;
use crate::sync::{Bell, lock, lock_within};
use crate::threads::{Role, spawn};

/// How long the service may take to end after a signal. Then it is ended.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long the list of bells may be in use elsewhere.
const BELLS: Duration = Duration::from_millis(100);

/// The stack of a thread that does little.
const SMALL: usize = 128 << 10;

/// How the service ends: by whom it may be ended, and what is done at once then.
pub(crate) struct Ending {
    stop: AtomicBool,
    failed: AtomicBool,
    /// Whether somebody wants the configuration to be read again.
    reload: AtomicBool,
    lines: OnceLock<Arc<Lines>>,
    /// Of everybody who waits.
    bells: Mutex<Vec<Arc<Bell>>>,
    /// Of the supervisor.
    pub(crate) supervisor: Arc<Bell>,
    deadline: Arc<Bell>,
}

impl Ending {
    pub(crate) fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            reload: AtomicBool::new(false),
            lines: OnceLock::new(),
            bells: Mutex::default(),
            supervisor: Arc::default(),
            deadline: Arc::default(),
        }
    }

    /// The lines to be sealed from now on.
    pub(crate) fn guard(&self, lines: &Arc<Lines>) {
        // Once: there is one set of lines.
        let _ = self.lines.set(lines.clone());
        // A signal before this could not know them.
        if self.stopping() {
            lines.seal();
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Who is woken to end.
    pub(crate) fn wake(&self, bells: Vec<Arc<Bell>>) {
        *lock(&self.bells) = bells;
    }

    /// Whether a reload is wanted; asked once for each.
    pub(crate) fn reload_wanted(&self) -> bool {
        self.reload.swap(false, Ordering::SeqCst)
    }

    /// Whether something went wrong that the service cannot do without.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Seals the lines, and wakes everybody to end. Waits for nobody but the lines.
    pub(crate) fn stop(&self) {
        self.deadline.ring();
        self.stop.store(true, Ordering::SeqCst);
        if let Some(lines) = self.lines.get() {
            lines.seal();
        }
        // This may be a panic hook. Who is not woken looks by himself within a second or so.
        if let Some(bells) = lock_within(&self.bells, BELLS) {
            bells.iter().for_each(|bell| bell.ring());
        }
        self.supervisor.ring();
    }

    /// The same, because something went wrong.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.stop();
    }
}

/// Starts the thread that waits for signals, and the one that ends the process if it does not end.
pub(crate) fn handle_signals(ending: &Arc<Ending>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot handle signals")?;
    let deadline = ending.deadline.clone();
    spawn("deadline", Role::Vital, Some(SMALL), move || {
        deadline.wait(None);
        std::thread::sleep(DEADLINE);
        log::error!("the service did not end within {} s; it is ended now", DEADLINE.as_secs());
        log::logger().flush();
        std::process::exit(1);
    })?;
    let ending = ending.clone();
    spawn("signals", Role::Vital, Some(SMALL), move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                ending.reload.store(true, Ordering::SeqCst);
                ending.supervisor.ring();
            } else {
                ending.stop();
                log::info!("stopping: signal {signal}");
            }
        }
    })?;
    Ok(())
}
