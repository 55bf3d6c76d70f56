//! Frames one after another, as cameras in the network send them (`multipart/x-mixed-replace`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use super::access::{Access, Context};
use super::limits::FRAME_WAIT;
use crate::live::Viewer;
use crate::status::CameraBoard;

/// Between two frames: encoding those of a camera without compression takes time from the network.
const PERIOD: Duration = Duration::from_millis(100);

/// How long a viewer waits for frames before it has to come again.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) const KIND: &str = "multipart/x-mixed-replace; boundary=frame";

/// Between the parts. It is sent after each, because some show a picture only when the next begins.
const BOUNDARY: &str = "--frame\r\n";

/// Sends a viewer frames as fast as it takes them, until it is gone, none come, the service stops, or
/// others than `access` says are to be answered.
pub(super) async fn pictures(
    sender: Sender<Bytes>,
    (_viewer, camera): (Viewer, Arc<CameraBoard>),
    access: Arc<Access>,
    context: Arc<Context>,
) {
    if sender.send(BOUNDARY.into()).await.is_err() {
        return;
    }
    let mut last = Instant::now();
    while !context.stopping() && context.is_current(&access) && last.elapsed() < SILENCE {
        let begun = Instant::now();
        let Some(seen) = camera.tap.next(FRAME_WAIT).await else { continue };
        let jpeg = match seen.jpeg() {
            Ok(jpeg) => jpeg,
            Err(error) => return log::debug!("pictures over HTTP: {error}"),
        };
        last = Instant::now();
        let head = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
        let part = [head.as_bytes(), jpeg, b"\r\n", BOUNDARY.as_bytes()].concat();
        if sender.send(part.into()).await.is_err() {
            return;
        }
        sleep(PERIOD.saturating_sub(begun.elapsed())).await;
    }
}
