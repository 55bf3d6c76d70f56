//! Starting threads, each with what its panic means.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context as _, Result, bail};

/// What a panic of a thread means. It is given where the thread starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Without it the service ends; until it has, the others must not move a line.
    Vital,
    /// Whoever started it catches its panics and goes on without it: a model that is loaded, a
    /// client that is answered. Nothing of it can reach a line.
    Caught,
}

thread_local! {
    /// `None` in threads that others started: those that compute, mostly.
    static ROLE: Cell<Option<Role>> = const { Cell::new(None) };
}

/// How much runs now whose panics are caught.
static CAUGHT: AtomicUsize = AtomicUsize::new(0);

/// Starts a thread.
///
/// # Errors
/// A system without room for a thread.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    role: Role,
    stack: Option<usize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let mut builder = Builder::new().name(name.into());
    if let Some(stack) = stack {
        builder = builder.stack_size(stack);
    }
    builder
        .spawn(move || {
            ROLE.set(Some(role));
            work()
        })
        .with_context(|| format!("cannot start thread {name}"))
}

/// Runs what may panic; the lines stay as they are then, and a panic is an error. So are those of
/// threads that it starts to compute, because they come back to whoever waits for them.
///
/// # Errors
/// What `work` gives, and a panic.
pub(crate) fn caught<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = ROLE.replace(Some(Role::Caught));
    CAUGHT.fetch_add(1, Ordering::SeqCst);
    let result = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.fetch_sub(1, Ordering::SeqCst);
    ROLE.set(before);
    match result {
        Ok(result) => result,
        Err(payload) => bail!("{what} panicked: {}; please report this", said(&*payload)),
    }
}

/// Whether whoever is panicking now will be caught, and nothing of it can reach a line. A thread
/// that computes may do so for a model that is loaded; if it does so for the running one, its panic
/// comes back to a vital thread at once.
pub(crate) fn is_caught() -> bool {
    match ROLE.try_with(Cell::get).ok().flatten() {
        Some(Role::Vital) => false,
        Some(Role::Caught) => true,
        None => CAUGHT.load(Ordering::SeqCst) > 0,
    }
}

/// What a panic says.
pub(crate) fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
