//! Lines of a Raspberry Pi by the registers of its GPIO block, mapped into this process.
//!
//! A write takes no system call, and a pin keeps its level and direction when the process ends.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rppal::gpio::{Gpio, Level, OutputPin};

use super::gpio;
use super::port::{LineCause, LineError, OutputLine, WriteError};
use crate::sync::lock_within;

/// Labels of the chips whose offsets are BCM numbers: up to Pi 3, Pi 4, Pi 5.
const LABELS: [&str; 3] = ["pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"];

/// How long a write waits for another one, which takes an instruction.
const PATIENCE: Duration = Duration::from_millis(10);

/// The lock that all pins of this process share.
static OWNER: Mutex<Weak<File>> = Mutex::new(Weak::new());

/// An output pin.
pub(super) struct Registers {
    // Held for the one instruction of a write.
    pin: Mutex<OutputPin>,
    _owner: Arc<File>,
}

impl Registers {
    /// Takes a pin by its BCM number and drives it at once.
    ///
    /// # Errors
    /// A board without such registers, a pin that it does not have, that the kernel or another
    /// program holds, or registers that another process drives.
    pub(super) fn open(name: &str, number: u8, high: bool) -> Result<Self, LineError> {
        let refused = |cause| LineError::Registers { line: name.to_owned(), cause };
        let chip = gpio::chips().into_iter().find(|chip| LABELS.contains(&chip.label.as_str()));
        let chip = chip.ok_or_else(|| refused(LineCause::NoRegisters(LABELS.join(" or "))))?;
        gpio::ensure_free(name, &chip.path, number.into())?;
        let owner = own(&chip.path).map_err(refused)?;
        let pin = Gpio::new().and_then(|gpio| gpio.get(number));
        let pin = pin.map_err(|error| refused(LineCause::Registers(error)))?;
        // The level is set before the direction: there is no other level in between.
        let mut pin = if high { pin.into_output_high() } else { pin.into_output_low() };
        pin.set_reset_on_drop(false);
        Ok(Self { pin: Mutex::new(pin), _owner: owner })
    }
}

impl OutputLine for Registers {
    fn set(&self, high: bool) -> Result<(), WriteError> {
        let Some(mut pin) = lock_within(&self.pin, PATIENCE) else {
            return Err(WriteError { cause: LineCause::Held, gone: false });
        };
        pin.write(Level::from(high));
        Ok(())
    }
}

/// Locks the chip against other resightd: the kernel does not know who writes to registers.
fn own(chip: &Path) -> Result<Arc<File>, LineCause> {
    let mut owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = owner.upgrade() {
        return Ok(file);
    }
    let failed = |cause| LineCause::File { path: chip.to_owned(), cause };
    let file = File::open(chip).map_err(failed)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => LineCause::Owned(chip.to_owned()),
        TryLockError::Error(error) => failed(error),
    })?;
    let file = Arc::new(file);
    *owner = Arc::downgrade(&file);
    Ok(file)
}
