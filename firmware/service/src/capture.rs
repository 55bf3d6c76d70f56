//! Raw frames of the configured source, in a file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use resight_runtime::Model;

use crate::camera::Wanted;
use crate::config::Config;
use crate::frame::{Frame, FrameFormat, Next};
use crate::source;

/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes so many frames to a file, as the source gives them, and describes the last one. The source is
/// that of the first camera, or of the one of this name.
///
/// # Errors
/// A configuration or model that the service would refuse, a name that no camera has, a source that cannot be opened, gives
/// a corrupt frame or none for ten seconds, and a file that cannot be written.
pub(crate) fn capture(path: &Path, camera: Option<&str>, frames: usize, output: &Path) -> Result<String> {
    let config = Config::load(path)?;
    let model = config.model.clone();
    let found = config.cameras.iter().find(|known| camera.is_none() || known.name.as_deref() == camera);
    let config = found.with_context(|| {
        let names: Vec<&str> = config.cameras.iter().filter_map(|camera| camera.name.as_deref()).collect();
        let there = if names.is_empty() { "none has a name".to_owned() } else { names.join(", ") };
        format!("{}: there is no camera `{}`: {there}", path.display(), camera.unwrap_or_default())
    })?;
    // A camera's format and size are chosen for the network.
    let model = Model::load(&model)?;
    let wanted = Wanted::new(model.preprocessing().resize_shorter, config.image.region);
    let name = &config.source.path;
    let (mut source, _) = source::open(&config.source, wanted)?;
    let unwritable = || format!("{}: cannot write", output.display());
    let mut file = BufWriter::new(File::create(output).with_context(unwritable)?);
    let mut frame = Frame::new();
    let mut deadline = Instant::now() + PATIENCE;
    let mut written = 0;
    while written < frames {
        match source.next(&mut frame, deadline.saturating_duration_since(Instant::now()))? {
            Next::Frame => {
                file.write_all(&frame.bytes).with_context(unwritable)?;
                written += 1;
                deadline = Instant::now() + PATIENCE;
            }
            Next::Nothing if Instant::now() < deadline => {}
            Next::Nothing => bail!("{name}: no frame for {} s", PATIENCE.as_secs()),
            Next::Corrupt(cause) => bail!("{name}: frame {}: {cause}", written + 1),
            Next::End if written == 0 => bail!("{name}: there are no frames"),
            Next::End => break,
        }
    }
    file.flush().with_context(unwritable)?;
    let format = match frame.format {
        FrameFormat::Jpeg => "JPEG".to_owned(),
        FrameFormat::Pixels(format, _) => {
            format!("{format:?} {}x{}, rows of {} bytes", frame.width, frame.height, frame.stride)
        }
    };
    Ok(format!("{}: {written} frames, the last of {} bytes: {format}", output.display(), frame.bytes.len()))
}
