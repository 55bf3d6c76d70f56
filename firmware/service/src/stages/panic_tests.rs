use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use super::*;
use crate::lines::{BackEnd, LineConfig, LineError, Lines, OutputLine, WriteError};
use crate::threads::{Role, caught, spawn};

/// A line that shows its level.
struct Shown(Arc<AtomicBool>);

impl OutputLine for Shown {
    fn set(&self, high: bool) -> Result<(), WriteError> {
        self.0.store(high, Ordering::SeqCst);
        Ok(())
    }
}

/// A lamp that is on, guarded by the hook.
struct Lamp {
    on: Arc<AtomicBool>,
    lines: Arc<Lines>,
    ending: Arc<Ending>,
}

impl Lamp {
    fn new() -> Self {
        let on = Arc::new(AtomicBool::new(false));
        let shown = on.clone();
        let open =
            move |_: &LineConfig| Ok::<_, LineError>(Box::new(Shown(shown.clone())) as Box<dyn OutputLine>);
        let config =
            LineConfig { name: "lamp".into(), back_end: BackEnd::Virtual, active_low: false, safe: false };
        let lines = Arc::new(Lines::with(Box::new(open), &[config]).unwrap());
        let ending = Arc::new(Ending::new());
        ending.guard(&lines);
        make_safe_on_panic(&ending);
        let lamp = Self { on, lines, ending };
        assert!(lamp.drive());
        lamp
    }

    /// Switches it on; `false` if it stays off.
    fn drive(&self) -> bool {
        let _ = self.lines.drive(&self.lines.list()[0], true).unwrap();
        self.on.load(Ordering::SeqCst)
    }
}

#[test]
fn a_panic_puts_the_lines_to_their_safe_levels() {
    let lamp = Lamp::new();
    let on = lamp.on.clone();
    // Already when the hook has run, before anybody joins.
    let seen = spawn("capture", Role::Vital, None, move || {
        let failed = catch_unwind(|| panic!("on purpose, for a test")).is_err();
        failed && !on.load(Ordering::SeqCst)
    });
    assert!(seen.unwrap().join().unwrap());
    assert!(lamp.ending.has_failed() && lamp.ending.stopping());
    assert!(!lamp.drive(), "for good");
}

#[test]
fn a_thread_that_others_started_is_as_vital() {
    let lamp = Lamp::new();
    assert!(thread::spawn(|| panic!("on purpose, for a test")).join().is_err());
    assert!(lamp.ending.has_failed() && !lamp.drive());
}

/// A model that is loaded beside the running one moves no wire, whatever it does.
#[test]
fn a_panic_that_is_caught_moves_no_wire() {
    let lamp = Lamp::new();
    let error = caught("loading", || -> anyhow::Result<()> { panic!("a dimension of {}", -3) }).unwrap_err();
    assert_eq!(error.to_string(), "loading panicked: a dimension of -3; please report this");
    let error = caught("loading", || -> anyhow::Result<()> { bail!("no such file") }).unwrap_err();
    assert_eq!(error.to_string(), "no such file");
    // On a thread that computes for it, too.
    let computing = || {
        let computed = thread::spawn(|| panic!("on purpose, for a test")).join();
        if computed.is_err() {
            bail!("it panicked");
        }
        Ok(())
    };
    assert_eq!(caught("loading", computing).unwrap_err().to_string(), "it panicked");
    let client = spawn("http client", Role::Caught, None, || panic!("on purpose, for a test")).unwrap();
    assert!(client.join().is_err());
    assert!(lamp.on.load(Ordering::SeqCst), "it went off");
    assert!(!lamp.ending.has_failed() && lamp.drive());
    // The next one is not caught.
    assert!(thread::spawn(|| panic!("on purpose, for a test")).join().is_err());
    assert!(!lamp.drive());
}

/// While something is loaded, a panic of a thread that computes for the running model seals the
/// lines when it comes back to the thread that waits for it.
#[test]
fn what_computes_for_a_vital_thread_is_vital_in_the_end() {
    let lamp = Lamp::new();
    let (ending, on) = (lamp.ending.clone(), lamp.on.clone());
    let result = caught("loading", || {
        let stage = spawn("inference", Role::Vital, None, move || {
            vital(&ending, || {
                let computed = thread::spawn(|| panic!("on purpose, for a test")).join();
                assert!(on.load(Ordering::SeqCst), "the hook knows no better");
                panic::resume_unwind(computed.unwrap_err());
            });
        })?;
        Ok(stage.join().is_err())
    });
    assert!(result.unwrap());
    assert!(lamp.ending.has_failed() && !lamp.drive());
}
