//! How long and how large things may be.

use std::time::Duration;

/// Largest request line with header, in bytes.
pub(super) const MAX_HEAD: usize = 8 << 10;

/// Most fields of a header.
pub(super) const MAX_FIELDS: usize = 64;

/// Largest body that is read, in bytes.
pub(super) const MAX_BODY: usize = 4 << 10;

/// How long a header may take, the handshake of TLS before it, a body after it, and the next request
/// after an answer.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a client may take for an answer, or for the next bytes of one without end.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long a request waits for the next frame.
pub(super) const FRAME_WAIT: Duration = Duration::from_secs(2);
