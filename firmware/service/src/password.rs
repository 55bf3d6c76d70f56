//! Reads a password from whoever types it.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result};
use resight_base::console::complain;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::http::Password;

/// Shows what is typed again when it is dropped.
struct Hidden(Termios);

impl Hidden {
    /// Shows nothing of what is typed; `None` if nobody types.
    fn new() -> Option<Self> {
        let input = io::stdin();
        let before = input.is_terminal().then(|| tcgetattr(&input).ok()).flatten()?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO;
        tcsetattr(&input, OptionalActions::Flush, &hidden).ok()?;
        Some(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Nothing else could be done about it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The hash of a line of standard input.
///
/// # Errors
/// Input that cannot be read, and what is no good password.
pub(crate) fn hash() -> Result<String> {
    let mut line = String::new();
    {
        let hidden = Hidden::new();
        if hidden.is_some() {
            complain(format_args!("Password (it is not shown):"));
        }
        io::stdin().read_line(&mut line).context("cannot read the password")?;
    }
    Password::hash(line.trim_end_matches(['\r', '\n']))
}
