//! Cameras by V4L2.
//!
//! Bytes are copied once, out of the driver's memory into the frame, and the buffer goes back
//! to the driver at once. Exporting buffers (DMABUF) would save nothing: the network's input is
//! made by this processor, which reads camera memory slowly, because it is mostly not cached.

mod choice;
mod controls;
mod device;
pub(crate) mod error;
mod find;
mod format;
mod list;
mod mapped;
mod ring;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use resight_imaging::Fields;

use self::choice::{Choice, ChoiceError, Mode};
pub(crate) use self::choice::{Prescribed, Wanted};
pub(crate) use self::controls::Setting;
use self::device::{Device, Format, Identity, Planes};
pub(crate) use self::error::CameraError;
use self::error::{CameraCause, LayoutError};
use self::format::{Content, Known};
pub(crate) use self::list::{cameras, doctor};
use self::mapped::Capture;
use self::ring::{Layout, Ring, RingError, Taken};
use crate::frame::{Frame, FrameFormat, Next, Source, SourceError};

/// A camera in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CameraConfig {
    /// A device file, or `auto`.
    pub(crate) device: String,
    pub(crate) prescribed: Prescribed,
    /// Names as `v4l2-ctl` spells them, and values.
    pub(crate) controls: Vec<(String, Setting)>,
}

/// Whether a configuration may ask for this format.
pub(crate) fn is_format(name: &str) -> bool {
    !Known::named(name).is_empty()
}

/// Least time without a frame after which a camera is taken for broken.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long one of several cameras may take for its first frame.
const FIRST_FRAME: Duration = Duration::from_secs(2);

/// How long one attempt may look for a camera that gives frames, but for the one that it is trying
/// then: systemd's watchdog waits meanwhile. The next attempt goes on from there.
const SEARCH: Duration = Duration::from_secs(4);

/// Which of several cameras the next attempt begins with.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The folder of devices.
const DEVICES: &str = "/dev";

/// Where the kernel describes them.
const SYSFS: &str = "/sys";

/// A configured name that several cameras share, and the place of the one that was opened by it.
static PLACE: Mutex<Option<(String, PathBuf)>> = Mutex::new(None);

/// A camera that gives frames.
#[derive(Debug)]
pub(crate) struct Camera {
    path: PathBuf,
    ring: Ring<Capture>,
    format: FrameFormat,
    width: u32,
    /// Of a buffer.
    height: u32,
    stride: u32,
    /// How half pictures lie in a buffer of pixels.
    fields: Option<Fields>,
    /// A buffer of half pictures.
    halves: Vec<u8>,
}

impl Camera {
    /// Opens a camera, sets its controls and starts it.
    ///
    /// # Errors
    /// What is wrong, with the remedy.
    pub(crate) fn open(config: &CameraConfig, wanted: Wanted) -> Result<Self, CameraError> {
        if config.device != "auto" {
            let path = &place(&config.device);
            let camera = Self::start(path, config, wanted)?;
            recommend_stable_name(path);
            return Ok(camera);
        }
        let mut candidates = find::devices(Path::new(DEVICES));
        // Most cameras have a second node, for what is no image.
        candidates.retain(|path| {
            let identity = Device::open(path).and_then(|device| device.identity());
            !identity.is_ok_and(|identity| identity.capture.is_none())
        });
        let several = candidates.len() > 1;
        let found = first_of(&candidates, &NEXT, SEARCH, |path| {
            Self::start(path, config, wanted).and_then(|camera| camera.proven(several))
        });
        let refused = match found {
            Ok(camera) => return Ok(camera),
            Err(refused) => refused,
        };
        let cause = if refused.is_empty() {
            CameraCause::None
        } else {
            CameraCause::NoFrames { others: refused.len() < candidates.len(), refused }
        };
        let remedy = "plug one in, or bring frames in with `kind = \"command\"` in [source]".into();
        Err(CameraError { device: "auto".into(), cause, remedy })
    }

    fn start(path: &Path, config: &CameraConfig, wanted: Wanted) -> Result<Self, CameraError> {
        let failed = |action: &'static str| move |error: std::io::Error| find::explain(path, action, error);
        let refuse = |cause: CameraCause, remedy: &str| CameraError {
            device: path.display().to_string(),
            cause,
            remedy: remedy.into(),
        };
        let device = Device::open(path).map_err(failed("open it"))?;
        let identity = device.identity().map_err(failed("ask what it is"))?;
        let planes = can_capture(path, &identity)?;
        let (choice, description) = choose(path, &device, &identity, planes, config, wanted)?;
        log::info!("{}: {} ({}): {choice}", path.display(), identity.card, description);
        let Choice { mode, interval, .. } = choice;
        let code = v4l::FourCC::new(&mode.known.code);
        let size = (mode.width, mode.height);
        device.set_format(planes, code, size).map_err(failed("set the format (VIDIOC_S_FMT)"))?;
        // Many cameras have one rate only, and no such setting.
        let interval = device.set_interval(planes, interval).unwrap_or(interval);
        set_controls(path, &device, &config.controls)?;
        let format = device.format(planes).map_err(failed("ask for the format (VIDIOC_G_FMT)"))?;
        if format.code.repr != mode.known.code {
            let cause = CameraCause::Format { found: format.code.to_string(), expected: code.to_string() };
            return Err(refuse(cause, "set another `format` in [source]"));
        }
        let found = (format.width, format.height);
        if found != size {
            let cause = CameraCause::Size { found, expected: size };
            if config.prescribed.width.or(config.prescribed.height).is_some() {
                return Err(refuse(cause, "set another `width` and `height` in [source]"));
            }
            log::warn!("{}: {cause}", path.display());
        }
        let (layout, stride) = layout(mode.known, &format)
            .map_err(|cause| refuse(cause.into(), "set another `format` or size in [source]"))?;
        let frame_format = match mode.known.content {
            Content::Jpeg => FrameFormat::Jpeg,
            Content::Pixels(pixels) => FrameFormat::Pixels(pixels, format.colours),
        };
        let interval =
            choice::rate(interval).map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        let patience = PATIENCE.max(interval.saturating_mul(10));
        let (width, height) = found;
        let fields = format::fields(format.field).filter(|_| mode.known.content != Content::Jpeg);
        if fields.is_some() {
            log::warn!("{}: interlaced: of each frame one of the two half pictures is used", path.display());
        }
        let capture = Capture::new(device, planes, format);
        let ring = Ring::start(capture, layout, patience).map_err(|error| explain_ring(path, error))?;
        let path = path.to_owned();
        Ok(Self { path, ring, format: frame_format, width, height, stride, fields, halves: vec![] })
    }

    /// Itself, if it gives a frame.
    fn proven(mut self, needed: bool) -> Result<Self, CameraError> {
        if !needed {
            return Ok(self);
        }
        let deadline = Instant::now() + FIRST_FRAME;
        let mut bytes = vec![];
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            let taken = self.ring.next(&mut bytes, wait).map_err(|error| explain_ring(&self.path, error))?;
            if matches!(taken, Taken::Frame(_)) {
                return Ok(self);
            }
            if wait.is_zero() {
                return Err(explain_ring(&self.path, RingError::Silent(FIRST_FRAME)));
            }
        }
    }
}

/// Tries `candidates` one after another, from number `next` on, until one is found, all were tried or
/// `time` is over; `next` is where another call goes on.
///
/// # Errors
/// Why each one that was tried cannot be used.
fn first_of<T>(
    candidates: &[PathBuf],
    next: &AtomicUsize,
    time: Duration,
    mut attempt: impl FnMut(&Path) -> Result<T, CameraError>,
) -> Result<T, Vec<CameraError>> {
    let begin = Instant::now();
    let first = next.swap(0, Ordering::Relaxed);
    let mut refused = vec![];
    for index in 0..candidates.len() {
        if index > 0 && begin.elapsed() >= time {
            next.store((first + index) % candidates.len(), Ordering::Relaxed);
            break;
        }
        match attempt(&candidates[(first + index) % candidates.len()]) {
            Ok(found) => return Ok(found),
            Err(error) => refused.push(error),
        }
    }
    Err(refused)
}

impl Source for Camera {
    fn next(&mut self, frame: &mut Frame, wait: Duration) -> Result<Next, SourceError> {
        let bytes = if self.fields.is_some() { &mut self.halves } else { &mut frame.bytes };
        match self.ring.next(bytes, wait).map_err(|error| explain_ring(&self.path, error))? {
            Taken::Frame(time) => {
                frame.arrival = time;
                frame.format = self.format;
                (frame.width, frame.height, frame.stride) = (self.width, self.height, self.stride);
                if let (Some(fields), FrameFormat::Pixels(format, _)) = (self.fields, self.format) {
                    fields.first(&self.halves, format, self.height, self.stride, &mut frame.bytes);
                    frame.height = fields.height(self.height);
                }
                Ok(Next::Frame)
            }
            Taken::Nothing => Ok(Next::Nothing),
            Taken::Corrupt(cause) => Ok(Next::Corrupt(format!("{}: {cause}", self.path.display()))),
        }
    }

    fn dropped(&mut self) -> u64 {
        self.ring.dropped()
    }
}

fn explain_ring(path: &Path, error: RingError) -> CameraError {
    let cause = match error {
        RingError::Driver { action, cause } => return find::explain(path, action, cause),
        other => CameraCause::Ring(other),
    };
    let remedy = "it is opened again; if that does not help, check its cable and power, and `dmesg`".into();
    CameraError { device: path.display().to_string(), cause, remedy }
}

/// The interface by which a device gives frames.
fn can_capture(path: &Path, identity: &Identity) -> Result<Planes, CameraError> {
    if let (Some(planes), true) = (identity.capture, identity.streaming) {
        return Ok(planes);
    }
    Err(CameraError {
        device: path.display().to_string(),
        cause: CameraCause::NoCapture { card: identity.card.clone(), driver: identity.driver.clone() },
        remedy: "`resightd cameras` lists the devices that do".into(),
    })
}

/// Every format and size that can be used.
fn modes(device: &Device, planes: Planes, wanted: Wanted, prescribed: &Prescribed) -> Vec<Mode> {
    let mut modes = vec![];
    for (code, _) in device.formats(planes) {
        let Some(known) = Known::of(code) else { continue };
        let mut sizes = choice::sizes(&device.sizes(code), wanted, prescribed);
        if sizes.is_empty() {
            // A driver without a list: what it makes of the size that is wanted.
            let size = (prescribed.width.unwrap_or(wanted.width), prescribed.height.unwrap_or(wanted.height));
            let tried = device.try_format(planes, code, size).or_else(|_| device.format(planes));
            sizes.extend(
                tried.ok().filter(|format| format.code == code).map(|format| (format.width, format.height)),
            );
        }
        for (width, height) in sizes {
            let intervals = choice::intervals(&device.intervals(code, width, height), prescribed);
            modes.push(Mode { known, width, height, intervals });
        }
    }
    modes.retain(choice::is_usable);
    modes
}

/// Chooses a mode. Gives the driver and the bus, too.
fn choose(
    path: &Path,
    device: &Device,
    identity: &Identity,
    planes: Planes,
    config: &CameraConfig,
    wanted: Wanted,
) -> Result<(Choice, String), CameraError> {
    let refuse = |cause: CameraCause, remedy: &str| CameraError {
        device: path.display().to_string(),
        cause,
        remedy: remedy.into(),
    };
    let modes = modes(device, planes, wanted, &config.prescribed);
    let only_bayer = modes.iter().all(|mode| mode.known.is_bayer());
    if config.prescribed.format.is_none()
        && let Some(remedy) = find::sensor_remedy(identity, only_bayer)
    {
        let driver = identity.driver.clone();
        if let Some(bridge) = find::bridge(Path::new(SYSFS)) {
            return Err(refuse(CameraCause::Bridge { driver, bridge }, find::BRIDGE_REMEDY));
        }
        return Err(refuse(CameraCause::Sensor { driver }, remedy));
    }
    let choice = choice::choose(&modes, wanted, &config.prescribed).map_err(|cause| {
        let offered: Vec<String> = device.formats(planes).iter().map(|(code, _)| code.to_string()).collect();
        if modes.is_empty()
            && let Some((cause, remedy)) = find::video_remedy(&path.display().to_string(), &offered)
        {
            return refuse(cause, &remedy);
        }
        let cause = match cause {
            ChoiceError::NoFormat { .. } => ChoiceError::NoFormat { offered: Some(offered) },
            other @ ChoiceError::NotOffered { .. } => other,
        };
        refuse(cause.into(), "set `format`, `width` and `height` in [source] accordingly, or leave them out")
    })?;
    Ok((choice, format!("{}, {}", identity.driver, identity.bus)))
}

fn set_controls(path: &Path, device: &Device, settings: &[(String, Setting)]) -> Result<(), CameraError> {
    if settings.is_empty() {
        return Ok(());
    }
    let known = device.controls();
    let refuse = |cause: CameraCause| CameraError {
        device: path.display().to_string(),
        cause,
        remedy: "correct [source.controls]; `resightd cameras` shows every control with its range".into(),
    };
    for (control, value) in
        controls::resolve(&known, settings).map_err(|faults| refuse(CameraCause::Controls(faults)))?
    {
        device
            .set_control(control, value)
            .map_err(|error| refuse(CameraCause::Control { name: control.name.clone(), value, error }))?;
        // Not every driver refuses what it does not do.
        if let Ok(found) = device.control(control)
            && control.kind != Some(v4l::control::Type::Button)
            && found != value
        {
            log::warn!("{}: control {} is {found} instead of {value}", path.display(), control.name);
        }
    }
    Ok(())
}

/// How frames lie in the buffers, and the stride of what is made of them.
///
/// # Errors
/// A format that contradicts itself.
fn layout(known: Known, format: &Format) -> Result<(Layout, u32), LayoutError> {
    let Content::Pixels(pixels) = known.content else {
        return Ok((Layout { parts: vec![], strides: vec![] }, 0));
    };
    if format.strides.len() != known.buffers {
        return Err(LayoutError::Buffers { format: format.code.to_string(), found: format.strides.len() });
    }
    let row = pixels.row_bytes(format.width);
    // Zero: the driver leaves it to the width.
    let stride = if format.strides[0] == 0 { row } else { format.strides[0] };
    if stride < row || stride > resight_imaging::MAX_STRIDE {
        return Err(LayoutError::Row { found: stride, width: format.width });
    }
    if known.buffers == 1 {
        let parts = known.parts(format.height, stride);
        let strides = parts.iter().map(|part| part.row).collect();
        return Ok((Layout { parts, strides }, stride));
    }
    // Each plane has padding of its own; what is made of them has none.
    let parts = known.parts(format.height, row);
    let mut strides = vec![];
    for (part, found) in parts.iter().zip(&format.strides) {
        let found = if *found == 0 { part.row } else { *found as usize };
        if found < part.row || found > resight_imaging::MAX_STRIDE as usize {
            return Err(LayoutError::PlaneRow { found, expected: part.row });
        }
        strides.push(found);
    }
    Ok((Layout { parts, strides }, row))
}

/// Where to open a camera by its configured name. One that several cameras share may lead to
/// another of them each time: it counts for the first time only.
fn place(device: &str) -> PathBuf {
    let mut place = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, path)) = place.as_ref().filter(|(name, _)| name == device) {
        return path.clone();
    }
    let (folder, sysfs) = (Path::new(DEVICES), Path::new(SYSFS));
    let shared = Path::new(device)
        .strip_prefix(folder.join("v4l/by-id"))
        .ok()
        .and_then(|_| std::fs::canonicalize(device).ok())
        .filter(|target| !find::twins(folder, sysfs, target).is_empty());
    let Some(target) = shared else { return device.into() };
    let stable = find::stable_names(folder, sysfs, &target).into_iter().next();
    let (path, remedy) = match stable {
        Some(name) => (name.clone(), format!("set `device = \"{}\"` in [source]", name.display())),
        None => (target, "no other name stays; use cameras with serial numbers of their own".into()),
    };
    log::warn!("{device} is the name of several cameras, it leads to {} now; {remedy}", path.display());
    *place = Some((device.to_owned(), path.clone()));
    path
}

/// Numbers change when a camera is plugged in again.
fn recommend_stable_name(path: &Path) {
    static ONCE: Once = Once::new();
    let numbered = path.parent() == Some(Path::new(DEVICES));
    if !numbered {
        return;
    }
    if let Some(name) = find::stable_names(Path::new(DEVICES), Path::new(SYSFS), path).first() {
        ONCE.call_once(|| {
            log::warn!(
                "{} may get another number; set `device = \"{}\"` in [source]",
                path.display(),
                name.display()
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use resight_imaging::Colours;
    use v4l::FourCC;

    use super::*;
    use crate::camera::format::Part;

    #[test]
    fn the_search_for_a_camera_is_short_and_goes_on_where_it_ended() {
        let candidates: Vec<PathBuf> = (0..3).map(|number| format!("/dev/video{number}").into()).collect();
        let next = AtomicUsize::new(0);
        // Gives which were tried, and which was found.
        let search = |time: Duration, good: Option<usize>| {
            let mut tried = vec![];
            let found = first_of(&candidates, &next, time, |path| {
                let number = candidates.iter().position(|candidate| candidate == path).unwrap();
                tried.push(number);
                let error =
                    || CameraError { device: "a".into(), cause: CameraCause::Gone, remedy: "c".into() };
                (good == Some(number)).then_some(number).ok_or_else(error)
            });
            (tried, found.ok())
        };
        let long = Duration::from_mins(1);
        assert_eq!(search(long, None), (vec![0, 1, 2], None));
        assert_eq!(search(long, Some(1)), (vec![0, 1], Some(1)));
        assert_eq!(search(Duration::ZERO, Some(2)), (vec![0], None));
        assert_eq!(search(Duration::ZERO, Some(2)), (vec![1], None));
        assert_eq!(search(Duration::ZERO, Some(2)), (vec![2], Some(2)));
        assert_eq!(search(Duration::ZERO, None), (vec![0], None));
        assert_eq!(search(long, None), (vec![1, 2, 0], None));
        assert_eq!(first_of(&[], &next, long, |_| Ok(())).unwrap_err().len(), 0);
    }

    fn format(code: [u8; 4], width: u32, height: u32, strides: &[u32]) -> (Known, Format) {
        let code = FourCC::new(&code);
        let strides = strides.to_vec();
        (
            Known::of(code).unwrap(),
            Format { code, width, height, field: 1, strides, colours: Colours::default() },
        )
    }

    fn laid_out(code: [u8; 4], strides: &[u32]) -> Result<(Layout, u32), LayoutError> {
        let (known, format) = format(code, 8, 4, strides);
        layout(known, &format)
    }

    #[test]
    fn layouts_follow_the_drivers_strides() {
        let part = |rows, row| Part { rows, row };
        let (whole, stride) = laid_out(*b"YUYV", &[32]).unwrap();
        assert_eq!((whole.parts, whole.strides, stride), (vec![part(1, 128)], vec![128], 32));
        // A driver that does not say.
        assert_eq!(laid_out(*b"NV12", &[0]).unwrap().0.parts, [part(1, 48)]);
        let (two, stride) = laid_out(*b"NM12", &[16, 16]).unwrap();
        assert_eq!((two.parts, two.strides, stride), (vec![part(4, 8), part(2, 8)], vec![16, 16], 8));
        let (three, _) = laid_out(*b"YM12", &[8, 16, 0]).unwrap();
        assert_eq!((three.parts[1], three.strides), (part(2, 4), vec![8, 16, 4]));
        let (jpeg, _) = laid_out(*b"MJPG", &[0]).unwrap();
        assert!(jpeg.parts.is_empty());
    }

    #[test]
    fn contradictions_are_refused() {
        for (code, strides, cause) in [
            (*b"YUYV", &[15][..], "rows of 15 bytes for 8 pixels"),
            (*b"YUYV", &[u32::MAX], "rows of 4294967295 bytes for 8 pixels"),
            (*b"NV12", &[8, 8], "NV12 comes in 2 buffers"),
            (*b"NM12", &[8], "NM12 comes in 1 buffers"),
            (*b"NM12", &[], "NM12 comes in 0 buffers"),
            (*b"YM12", &[8, 3, 4], "rows of 3 bytes in a plane that needs 4"),
        ] {
            assert_eq!(laid_out(code, strides).unwrap_err().to_string(), cause);
        }
    }

    #[test]
    fn a_camera_that_is_none_is_refused_with_the_remedy() {
        let wanted = Wanted { width: 256, height: 256 };
        let folder = tempfile::tempdir().unwrap();
        let open = |device: &Path| {
            let device = device.display().to_string();
            let config = CameraConfig { device, prescribed: Prescribed::default(), controls: vec![] };
            Camera::open(&config, wanted).unwrap_err().to_string()
        };
        let gone = folder.path().join("video0");
        assert!(open(&gone).contains("video0: no such device; plug the camera in"));
        std::fs::write(&gone, b"").unwrap();
        assert!(open(&gone).contains("video0: not a V4L2 device; `resightd cameras` lists"));
        assert!(open(Path::new("/dev/null")).contains("not a V4L2 device"));
        assert!(open(Path::new("nul\0")).contains("cannot open it"));
    }
}
