//! Which devices there are, by all their names, and who holds them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::device::Identity;
use super::error::{CameraCause, CameraError};

/// `/dev/videoN`, by number.
pub(super) fn devices(folder: &Path) -> Vec<PathBuf> {
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("video")?.parse::<u32>().ok();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(u32, PathBuf)> = entries.filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// What udev makes a name in `by-id` of.
#[derive(Debug, PartialEq, Eq)]
struct UsbIdentity {
    vendor: String,
    product: String,
    serial: Option<String>,
    interface: Option<String>,
    index: Option<String>,
}

impl UsbIdentity {
    /// That of a device file, with the device on the bus that has it; `None` if it is not on USB.
    fn of(sysfs: &Path, device: &Path) -> Option<(PathBuf, Self)> {
        let node = sysfs.join("class/video4linux").join(device.file_name()?);
        let interface = fs::canonicalize(node.join("device")).ok()?;
        let usb = interface.parent()?.to_owned();
        let read = |path: PathBuf| Some(fs::read_to_string(path).ok()?.trim().to_owned());
        let identity = Self {
            vendor: read(usb.join("idVendor"))?,
            product: read(usb.join("idProduct"))?,
            serial: read(usb.join("serial")),
            interface: read(interface.join("bInterfaceNumber")),
            index: read(node.join("index")),
        };
        Some((usb, identity))
    }
}

/// Other cameras that udev gives the same name in `by-id`, because they are of one model and have
/// one serial number or none: the name leads to the one that was found last.
pub(super) fn twins(folder: &Path, sysfs: &Path, device: &Path) -> Vec<PathBuf> {
    let Some((own, identity)) = UsbIdentity::of(sysfs, device) else { return vec![] };
    let is_twin = |other: &PathBuf| {
        UsbIdentity::of(sysfs, other).is_some_and(|(usb, twin)| usb != own && twin == identity)
    };
    devices(folder).into_iter().filter(is_twin).collect()
}

/// Names of a device that stay when it comes back under another number, best first. One in `by-id`
/// that another camera has too is none of them.
pub(super) fn stable_names(folder: &Path, sysfs: &Path, device: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let kinds: &[&str] = if twins(folder, sysfs, device).is_empty() {
        &["v4l/by-id", "v4l/by-path"]
    } else {
        &["v4l/by-path"]
    };
    for kind in kinds {
        let entries = fs::read_dir(folder.join(kind)).into_iter().flatten().flatten();
        let same = |path: &PathBuf| fs::canonicalize(path).is_ok_and(|target| target == device);
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(same).collect();
        names.sort();
        found.extend(names);
    }
    found
}

/// Processes that have a file open, as far as they can be seen.
pub(super) fn holders(processes: &Path, device: &Path) -> Vec<String> {
    let device = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let mut found = vec![];
    for process in fs::read_dir(processes).into_iter().flatten().flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        if number != std::process::id()
            && files
                .map(|file| file.path())
                .any(|file| fs::read_link(file).is_ok_and(|target| target == device))
        {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{} (process {number})", name.trim()));
        }
    }
    found
}

/// How frames of a camera come in that has no image of its own, if it is such a one: a sensor
/// whose data must pass through a processor that is not reached through this device.
pub(super) fn sensor_remedy(identity: &Identity, only_bayer: bool) -> Option<&'static str> {
    const RASPBERRY_PI: &str = "a program brings its frames in: set `kind = \"command\"`, `command = \
        [\"rpicam-vid\", \"-t\", \"0\", \"-n\", \"--codec\", \"yuv420\", \"--width\", \"640\", \"--height\", \"480\", \
        \"-o\", \"-\"]`, `stream = \"raw\"`, `format = \"i420\"`, `width = 640`, `height = 480` in [source]; a device \
        with `format` in [source] is used as it is";
    const JETSON: &str = "a program brings its frames in: set `kind = \"command\"`, `command = \
        [\"gst-launch-1.0\", \"-q\", \"nvarguscamerasrc\", \"!\", \"nvvidconv\", \"!\", \
        \"video/x-raw,format=I420,width=640,height=480\", \"!\", \"fdsink\"]`, `stream = \"raw\"`, `format = \
        \"i420\"`, `width = 640`, `height = 480` in [source]; a device with `format` in [source] is used as it is";
    const OTHER: &str = "a program brings its frames in, by libcamera or GStreamer: set `kind = \"command\"`, \
        `command` and `stream` in [source]; a device with `format` in [source] is used as it is";
    match identity.driver.as_str() {
        "unicam" | "rp1-cfe" | "bcm2835-isp" | "pispbe" | "rpi-hevc-dec" => Some(RASPBERRY_PI),
        "tegra-video" | "tegra-capture-vi" if only_bayer => Some(JETSON),
        _ if identity.media_controlled && only_bayer => Some(OTHER),
        _ => None,
    }
}

/// What a camera gives that only sends compressed video, and how its frames come in.
pub(super) fn video_remedy(device: &str, codes: &[String]) -> Option<(CameraCause, String)> {
    const VIDEO: [(&str, &str, &str); 4] = [
        ("H264", "H.264", "h264"),
        ("AVC1", "H.264", "h264"),
        ("HEVC", "H.265", "hevc"),
        ("MPG4", "MPEG-4", "mpeg4"),
    ];
    let (_, name, input) = VIDEO.iter().find(|(code, ..)| codes.iter().any(|other| other == code))?;
    let remedy = format!(
        "a program decodes it: set `kind = \"command\"`, `stream = \"y4m\"` and `command = [\"ffmpeg\", \"-loglevel\", \
         \"error\", \"-f\", \"v4l2\", \"-input_format\", \"{input}\", \"-i\", \"{device}\", \"-vf\", \"scale=640:-2\", \
         \"-pix_fmt\", \"yuv420p\", \"-f\", \"yuv4mpegpipe\", \"-\"]` in [source]"
    );
    Some((CameraCause::Video(name), remedy))
}

/// The chip that brings HDMI or an analogue signal in where a sensor would be, if there is one: the name
/// of its device behind the media controller begins with one of these.
pub(super) fn bridge(sysfs: &Path) -> Option<String> {
    const BRIDGES: [&str; 7] = ["tc358743", "tc358746", "lt6911", "adv7", "tda1997", "it6801", "tw9"];
    let nodes = fs::read_dir(sysfs.join("class/video4linux")).into_iter().flatten().flatten();
    let names = nodes.filter_map(|node| fs::read_to_string(node.path().join("name")).ok());
    let mut found: Vec<String> = names
        .map(|name| name.trim().to_owned())
        .filter(|name| BRIDGES.iter().any(|bridge| name.to_ascii_lowercase().starts_with(bridge)))
        .collect();
    found.sort();
    found.into_iter().next()
}

/// What to do where a bridge brings HDMI in: it has no image before it is told which signal to take.
pub(super) const BRIDGE_REMEDY: &str = "this is no sensor but a bridge: tell it which signals it may be sent \
    with `v4l2-ctl -d DEVICE --set-edid=type=hdmi`, take over the one that comes with `v4l2-ctl -d DEVICE \
    --set-dv-bt-timings query`, and set `format = \"uyvy\"` and the signal's `width` and `height` in [source]";

/// What an error of the system means for a camera, and what to do about it.
pub(super) fn explain(device: &Path, action: &'static str, error: io::Error) -> CameraError {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let (cause, remedy) = if is(Errno::NOENT) || is(Errno::NODEV) || is(Errno::NXIO) {
        let others: Vec<String> =
            devices(Path::new("/dev")).iter().map(|path| path.display().to_string()).collect();
        let others = if others.is_empty() { "there are none".into() } else { others.join(", ") };
        (CameraCause::Gone, format!("plug the camera in, or set `device` in [source] to another ({others})"))
    } else if is(Errno::ACCESS) || is(Errno::PERM) {
        (
            CameraCause::Permission,
            "add the user to the group video with `usermod -a -G video USER`, or allow the device in the \
             service's unit with DeviceAllow=char-video4linux rw"
                .into(),
        )
    } else if is(Errno::BUSY) {
        let holders = holders(Path::new("/proc"), device);
        (CameraCause::Busy(holders), "stop that; a camera serves one program at a time".into())
    } else if is(Errno::NOTTY) {
        (CameraCause::NoCamera, "`resightd cameras` lists those that are".into())
    } else if is(Errno::NOSPC) {
        (
            CameraCause::Bandwidth,
            "set a smaller size, a lower rate or `format = \"mjpeg\"` in [source], or use another USB port"
                .into(),
        )
    } else if is(Errno::PIPE) || is(Errno::NOLINK) {
        (
            CameraCause::Unconnected { action, error },
            "set the media controller's links and formats up with `media-ctl`, or bring the frames in with \
             rpicam-vid or GStreamer and `kind = \"command\"` in [source]"
                .into(),
        )
    } else {
        (
            CameraCause::System { action, error },
            "`dmesg` may say why; `resightd cameras` shows what it offers".into(),
        )
    };
    CameraError { device: device.display().to_string(), cause, remedy }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::camera::device::Planes;

    #[test]
    fn devices_come_by_number_with_their_stable_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["video10", "video2", "video0", "videox", "vbi0"] {
            File::create(root.join(name)).unwrap();
        }
        let found = devices(&root);
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["video0", "video2", "video10"]);
        for (kind, name) in [("by-path", "usb-1"), ("by-id", "usb-Cam-index0")] {
            fs::create_dir_all(root.join("v4l").join(kind)).unwrap();
            symlink("../../video2", root.join("v4l").join(kind).join(name)).unwrap();
        }
        symlink("../../video9", root.join("v4l/by-id/gone")).unwrap();
        let expected = [root.join("v4l/by-id/usb-Cam-index0"), root.join("v4l/by-path/usb-1")];
        let sysfs = root.join("sys");
        assert_eq!(stable_names(&root, &sysfs, &root.join("video2")), expected);
        assert!(stable_names(&root, &sysfs, &root.join("video0")).is_empty());
        assert!(devices(&root.join("none")).is_empty());
    }

    /// Cheap cameras have one serial number for all, or none.
    #[test]
    fn a_name_that_two_cameras_share_is_not_recommended() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let sysfs = root.join("sys");
        let camera = |number: u32, port: &str, product: &str| {
            File::create(root.join(format!("video{number}"))).unwrap();
            let interface = sysfs.join(format!("devices/usb1/{port}/{port}:1.0"));
            fs::create_dir_all(&interface).unwrap();
            fs::write(interface.join("bInterfaceNumber"), "00\n").unwrap();
            for (file, text) in [("idVendor", "0c45"), ("idProduct", product), ("serial", "200901010001")] {
                fs::write(interface.parent().unwrap().join(file), text).unwrap();
            }
            let node = sysfs.join(format!("class/video4linux/video{number}"));
            fs::create_dir_all(&node).unwrap();
            fs::write(node.join("index"), format!("{}\n", number % 2)).unwrap();
            symlink(&interface, node.join("device")).unwrap();
        };
        for kind in ["by-id", "by-path"] {
            fs::create_dir_all(root.join("v4l").join(kind)).unwrap();
        }
        symlink("../../video2", root.join("v4l/by-id/usb-Cam-index0")).unwrap();
        symlink("../../video2", root.join("v4l/by-path/usb-1.2")).unwrap();
        // A camera with its second node, which has an index of its own, and one of another model.
        camera(2, "1-1.2", "6366");
        camera(3, "1-1.2", "6366");
        camera(4, "1-1.3", "6367");
        assert!(twins(&root, &sysfs, &root.join("video2")).is_empty());
        assert_eq!(stable_names(&root, &sysfs, &root.join("video2")).len(), 2);
        camera(6, "1-1.4", "6366");
        assert_eq!(twins(&root, &sysfs, &root.join("video2")), [root.join("video6")]);
        let names = stable_names(&root, &sysfs, &root.join("video2"));
        assert_eq!(names, [root.join("v4l/by-path/usb-1.2")]);
    }

    #[test]
    fn the_holder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let device = fs::canonicalize(folder.path()).unwrap().join("video0");
        File::create(&device).unwrap();
        let process = folder.path().join("4294967295");
        fs::create_dir_all(process.join("fd")).unwrap();
        fs::write(process.join("comm"), "ffmpeg\n").unwrap();
        symlink("/dev/null", process.join("fd/0")).unwrap();
        fs::create_dir(folder.path().join("self")).unwrap();
        assert!(holders(folder.path(), &device).is_empty());
        symlink(&device, process.join("fd/3")).unwrap();
        assert_eq!(holders(folder.path(), &device), ["ffmpeg (process 4294967295)"]);
    }

    #[test]
    fn a_bridge_is_known_by_the_name_of_its_chip() {
        let sysfs = tempfile::tempdir().unwrap();
        let name = |node: &str, name: &str| {
            let folder = sysfs.path().join("class/video4linux").join(node);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("name"), name).unwrap();
        };
        name("video0", "unicam-image\n");
        name("v4l-subdev0", "imx219 10-0010\n");
        assert_eq!(bridge(sysfs.path()), None);
        name("v4l-subdev1", "tc358743 10-000f\n");
        assert_eq!(bridge(sysfs.path()).as_deref(), Some("tc358743 10-000f"));
    }

    #[test]
    fn sensors_without_an_image_are_told_from_cameras() {
        let identity = |driver: &str, media_controlled| Identity {
            driver: driver.into(),
            card: String::new(),
            bus: String::new(),
            capture: Some(Planes::Single),
            streaming: true,
            media_controlled,
        };
        for (driver, media_controlled, only_bayer, expected) in [
            ("unicam", true, false, Some("rpicam-vid")),
            ("rp1-cfe", true, true, Some("rpicam-vid")),
            ("tegra-video", false, true, Some("nvarguscamerasrc")),
            ("tegra-video", false, false, None),
            ("sun6i-csi", true, true, Some("libcamera")),
            ("rkisp1", true, false, None),
            ("uvcvideo", false, true, None),
        ] {
            let remedy = sensor_remedy(&identity(driver, media_controlled), only_bayer);
            assert_eq!(remedy.is_some(), expected.is_some(), "{driver}");
            assert!(remedy.is_none_or(|remedy| remedy.contains(expected.unwrap_or_default())));
        }
    }

    #[test]
    fn a_camera_of_compressed_video_is_named_as_such_with_the_line_to_write() {
        let codes = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>();
        let (cause, remedy) = video_remedy("/dev/video2", &codes(&["PAC1", "H264"])).unwrap();
        assert_eq!(cause.to_string(), "this camera gives compressed video (H.264) only, no pictures");
        assert!(
            remedy.contains("`kind = \"command\"`") && remedy.contains("\"-input_format\", \"h264\""),
            "{remedy}"
        );
        assert!(remedy.contains("\"-i\", \"/dev/video2\""), "{remedy}");
        assert!(video_remedy("/dev/video2", &codes(&["PAC1"])).is_none());
    }

    #[test]
    fn each_error_has_a_remedy() {
        for (errno, cause, remedy) in [
            (Errno::NOENT, "no such device", "plug"),
            (Errno::NODEV, "no such device", "plug"),
            (Errno::ACCESS, "permission", "group video"),
            (Errno::BUSY, "in use by", "stop"),
            (Errno::NOSPC, "bandwidth", "mjpeg"),
            (Errno::PIPE, "cannot start", "media-ctl"),
            (Errno::NOTTY, "not a V4L2 device", "resightd cameras"),
            (Errno::IO, "cannot start", "dmesg"),
        ] {
            let text = explain(Path::new("/dev/video7"), "start", errno.into()).to_string();
            assert!(
                text.starts_with("/dev/video7: ") && text.contains(cause) && text.contains(remedy),
                "{text}"
            );
        }
    }
}
