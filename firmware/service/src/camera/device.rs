//! A V4L2 device and its requests.
//!
//! The crate v4l gives the requests' numbers, the structures, and the types of capabilities,
//! controls, sizes and intervals. Its conversions of whole answers are not used: they panic on
//! what newer kernels add (types of controls, colour spaces) and know one plane only.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::ptr;

use resight_imaging::Colours;
use rustix::io::Errno;
use v4l::capability::Flags as Capability;
use v4l::control::{Flags as ControlFlags, Type as ControlType};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;
use v4l::{FourCC, Fraction};

use super::format::colours;
use super::ring::MAX_PLANES;

pub(super) type Request = vidioc::_IOC_TYPE;

/// `_IOR('V', 89, struct v4l2_event)`, which v4l lacks.
pub(super) const VIDIOC_DQEVENT: Request = event_request(2, size_of::<v4l2_event>(), 89);

/// `_IOW('V', 90, struct v4l2_event_subscription)`, which v4l lacks.
pub(super) const VIDIOC_SUBSCRIBE_EVENT: Request = event_request(1, size_of::<v4l2_event_subscription>(), 90);

/// The number of a request of V4L2: direction (1 writes, 2 reads), size, `'V'`, number.
const fn event_request(direction: Request, bytes: usize, number: Request) -> Request {
    direction << 30 | (bytes as Request) << 16 | (b'V' as Request) << 8 | number
}

/// `V4L2_CAP_IO_MC`: formats are set up through the media controller.
const IO_MC: u32 = 0x2000_0000;

/// No list of a driver is longer; one that never ends must not keep us.
pub(super) const MAX_ENTRIES: u32 = 1024;

/// What a device says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) driver: String,
    pub(super) card: String,
    pub(super) bus: String,
    /// Whether it gives frames, with one plane or several.
    pub(super) capture: Option<Planes>,
    pub(super) streaming: bool,
    /// Whether its formats depend on other devices behind the media controller.
    pub(super) media_controlled: bool,
}

/// Which of V4L2's two interfaces a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planes {
    Single,
    Multiple,
}

impl Planes {
    pub(super) fn buffer_type(self) -> u32 {
        match self {
            Self::Single => v4l::buffer::Type::VideoCapture as u32,
            Self::Multiple => v4l::buffer::Type::VideoCaptureMplane as u32,
        }
    }
}

/// A format as the driver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) code: FourCC,
    pub(super) width: u32,
    pub(super) height: u32,
    /// `enum v4l2_field`.
    pub(super) field: u32,
    /// Bytes of a row of each plane.
    pub(super) strides: Vec<u32>,
    pub(super) colours: Colours,
}

/// A control as the driver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) id: u32,
    /// As `v4l2-ctl` spells it.
    pub(super) name: String,
    /// `None` for kinds that cannot be set by a number.
    pub(super) kind: Option<ControlType>,
    pub(super) minimum: i64,
    pub(super) maximum: i64,
    pub(super) step: u64,
    pub(super) default: i64,
    pub(super) flags: ControlFlags,
    /// Of a menu: number and name.
    pub(super) items: Vec<(i64, String)>,
    pub(super) value: Option<i64>,
}

/// An open device; its memory is in [`mapped`](super::mapped).
#[derive(Debug)]
pub(super) struct Device {
    pub(super) file: File,
}

/// A structure of the kernel of which nothing is said.
pub(super) fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for the kernel's structures: numbers, arrays, unions and raw pointers,
    // for all of which zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn text(bytes: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    String::from_utf8_lossy(text).trim().to_owned()
}

/// The name that `v4l2-ctl` gives a control: lower case, everything else than letters and
/// digits made one underscore.
fn spelled(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

impl Device {
    /// Opens a device without waiting.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let file = File::options().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
        Ok(Self { file })
    }

    /// Makes a request that takes exactly a `T`. A pointer in it must be that of living memory
    /// of the length that goes with it.
    pub(super) fn request<T>(&self, request: Request, argument: &mut T) -> io::Result<()> {
        // Fourteen bits of the number are the size that the kernel reads and writes.
        if (request >> 16 & 0x3fff) as usize != size_of::<T>() {
            return Err(Errno::INVAL.into());
        }
        loop {
            // SAFETY: the kernel reads and writes `size_of::<T>()` bytes there, as was checked;
            // pointers in it are set by this module and `mapped` only, to living arrays.
            let result =
                unsafe { v4l::v4l2::ioctl(self.file.as_raw_fd(), request, ptr::from_mut(argument).cast()) };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// # Errors
    /// No V4L2 device, or a lost one.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        let mut answer: v4l2_capability = zeroed();
        self.request(vidioc::VIDIOC_QUERYCAP, &mut answer)?;
        let has_own = Capability::from(answer.capabilities).contains(Capability::DEVICE_CAPS);
        let bits = if has_own { answer.device_caps } else { answer.capabilities };
        let flags = Capability::from(bits);
        let capture = if flags.contains(Capability::VIDEO_CAPTURE_MPLANE) {
            Some(Planes::Multiple)
        } else {
            flags.contains(Capability::VIDEO_CAPTURE).then_some(Planes::Single)
        };
        Ok(Identity {
            driver: text(&answer.driver),
            card: text(&answer.card),
            bus: text(&answer.bus_info),
            capture,
            streaming: flags.contains(Capability::STREAMING),
            media_controlled: bits & IO_MC != 0,
        })
    }

    /// Codes and descriptions of the formats that it offers.
    pub(super) fn formats(&self, planes: Planes) -> Vec<(FourCC, String)> {
        let mut found = vec![];
        for index in 0..MAX_ENTRIES {
            let mut entry = v4l2_fmtdesc { index, type_: planes.buffer_type(), ..zeroed() };
            if self.request(vidioc::VIDIOC_ENUM_FMT, &mut entry).is_err() {
                break;
            }
            found.push((FourCC::from(entry.pixelformat), text(&entry.description)));
        }
        found
    }

    /// Sizes that it offers for a format; none where the driver has no list.
    pub(super) fn sizes(&self, code: FourCC) -> Vec<FrameSizeEnum> {
        let mut found = vec![];
        for index in 0..MAX_ENTRIES {
            let mut entry = v4l2_frmsizeenum { index, pixel_format: code.into(), ..zeroed() };
            if self.request(vidioc::VIDIOC_ENUM_FRAMESIZES, &mut entry).is_err() {
                break;
            }
            let Ok(size) = FrameSizeEnum::try_from(entry) else { break };
            let last = matches!(size, FrameSizeEnum::Stepwise(_));
            found.push(size);
            if last {
                break;
            }
        }
        found
    }

    /// Times from frame to frame that it offers for a format and size.
    pub(super) fn intervals(&self, code: FourCC, width: u32, height: u32) -> Vec<FrameIntervalEnum> {
        let mut found = vec![];
        for index in 0..MAX_ENTRIES {
            let mut entry = v4l2_frmivalenum { index, pixel_format: code.into(), width, height, ..zeroed() };
            if self.request(vidioc::VIDIOC_ENUM_FRAMEINTERVALS, &mut entry).is_err() {
                break;
            }
            let Ok(interval) = FrameIntervalEnum::try_from(entry) else { break };
            let last = matches!(interval, FrameIntervalEnum::Stepwise(_));
            found.push(interval);
            if last {
                break;
            }
        }
        found
    }

    fn exchange_format(
        &self,
        request: Request,
        planes: Planes,
        wanted: Option<Format>,
    ) -> io::Result<Format> {
        let mut format = v4l2_format { type_: planes.buffer_type(), ..zeroed() };
        if let Some(wanted) = wanted {
            match planes {
                Planes::Single => {
                    format.fmt.pix = v4l2_pix_format {
                        width: wanted.width,
                        height: wanted.height,
                        pixelformat: wanted.code.into(),
                        field: wanted.field,
                        ..zeroed()
                    };
                }
                Planes::Multiple => {
                    format.fmt.pix_mp = v4l2_pix_format_mplane {
                        width: wanted.width,
                        height: wanted.height,
                        pixelformat: wanted.code.into(),
                        field: wanted.field,
                        ..zeroed()
                    };
                }
            }
        }
        self.request(request, &mut format)?;
        Ok(match planes {
            Planes::Single => {
                // SAFETY: the kernel fills this member for this type; any bytes are numbers.
                let pix = unsafe { format.fmt.pix };
                // SAFETY: both members of the union are one number.
                let encoding = unsafe { pix.__bindgen_anon_1.ycbcr_enc };
                Format {
                    code: FourCC::from(pix.pixelformat),
                    width: pix.width,
                    height: pix.height,
                    field: pix.field,
                    strides: vec![pix.bytesperline],
                    colours: colours(pix.colorspace, encoding, pix.quantization),
                }
            }
            Planes::Multiple => {
                // SAFETY: the kernel fills this member for this type; any bytes are numbers.
                let pix = unsafe { format.fmt.pix_mp };
                // SAFETY: both members of the union are one number.
                let encoding = unsafe { pix.__bindgen_anon_1.ycbcr_enc };
                let count = usize::from(pix.num_planes).min(MAX_PLANES);
                // The structures are packed: members are copied, not referred to.
                let formats = pix.plane_fmt;
                Format {
                    code: FourCC::from(pix.pixelformat),
                    width: pix.width,
                    height: pix.height,
                    field: pix.field,
                    strides: formats[..count].iter().map(|plane| plane.bytesperline).collect(),
                    colours: colours(pix.colorspace, encoding.into(), pix.quantization.into()),
                }
            }
        })
    }

    /// # Errors
    /// What the driver says.
    pub(super) fn format(&self, planes: Planes) -> io::Result<Format> {
        self.exchange_format(vidioc::VIDIOC_G_FMT, planes, None)
    }

    /// What the driver would make of a format.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) fn try_format(&self, planes: Planes, code: FourCC, size: (u32, u32)) -> io::Result<Format> {
        self.exchange_format(vidioc::VIDIOC_TRY_FMT, planes, Some(progressive(code, size)))
    }

    /// Sets a format; the driver may change it.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) fn set_format(&self, planes: Planes, code: FourCC, size: (u32, u32)) -> io::Result<Format> {
        self.exchange_format(vidioc::VIDIOC_S_FMT, planes, Some(progressive(code, size)))
    }

    /// Sets the time from frame to frame; gives what the driver made of it.
    ///
    /// # Errors
    /// What the driver says; many have no such setting.
    pub(super) fn set_interval(&self, planes: Planes, interval: Fraction) -> io::Result<Fraction> {
        let mut setting = v4l2_streamparm { type_: planes.buffer_type(), ..zeroed() };
        setting.parm.capture = v4l2_captureparm { timeperframe: interval.into(), ..zeroed() };
        self.request(vidioc::VIDIOC_S_PARM, &mut setting)?;
        // SAFETY: the kernel fills this member for this type; any bytes are numbers.
        Ok(unsafe { setting.parm.capture }.timeperframe.into())
    }

    /// Every control that is not switched off for good.
    pub(super) fn controls(&self) -> Vec<Control> {
        let mut found = vec![];
        let mut id = 0;
        for _ in 0..MAX_ENTRIES {
            let mut entry = v4l2_query_ext_ctrl { id: id | V4L2_CTRL_FLAG_NEXT_CTRL, ..zeroed() };
            if self.request(vidioc::VIDIOC_QUERY_EXT_CTRL, &mut entry).is_err() || entry.id <= id {
                break;
            }
            id = entry.id;
            let kind = ControlType::try_from(entry.type_).ok();
            let flags = ControlFlags::from(entry.flags);
            if kind == Some(ControlType::CtrlClass) || flags.contains(ControlFlags::DISABLED) {
                continue;
            }
            let scalar = entry.nr_of_dims == 0;
            let name = entry.name.map(|letter| letter as u8);
            let mut control = Control {
                id,
                name: spelled(&text(&name)),
                kind: kind.filter(|kind| scalar && is_number(*kind)),
                minimum: entry.minimum,
                maximum: entry.maximum,
                step: entry.step,
                default: entry.default_value,
                flags,
                items: vec![],
                value: None,
            };
            self.menu(&mut control);
            if control.kind.is_some_and(|kind| kind != ControlType::Button)
                && !flags.contains(ControlFlags::WRITE_ONLY)
            {
                control.value = self.control(&control).ok();
            }
            found.push(control);
        }
        found
    }

    fn menu(&self, control: &mut Control) {
        let numbers = match control.kind {
            Some(ControlType::Menu) => false,
            Some(ControlType::IntegerMenu) => true,
            _ => return,
        };
        for index in (control.minimum.max(0)..=control.maximum).take(MAX_ENTRIES as usize) {
            let mut entry = v4l2_querymenu { id: control.id, index: index as u32, ..zeroed() };
            // Menus have gaps.
            if self.request(vidioc::VIDIOC_QUERYMENU, &mut entry).is_err() {
                continue;
            }
            let item = entry.__bindgen_anon_1;
            // SAFETY: any bytes are a number, and any bytes are text to be looked at.
            let (value, name) = unsafe { (item.value, item.name) };
            control.items.push((index, if numbers { value.to_string() } else { text(&name) }));
        }
    }

    fn exchange_control(&self, request: Request, control: &Control, value: i64) -> io::Result<i64> {
        let wide = control.kind == Some(ControlType::Integer64);
        let mut member: v4l2_ext_control = zeroed();
        member.id = control.id;
        if wide {
            member.__bindgen_anon_1.value64 = value;
        } else {
            member.__bindgen_anon_1.value = value as i32;
        }
        let mut members: v4l2_ext_controls = zeroed();
        // The class: drivers before Linux 4.4 know nothing else.
        members.__bindgen_anon_1.which = control.id & 0x0fff_0000;
        members.count = 1;
        members.controls = &raw mut member;
        self.request(request, &mut members)?;
        let content = member.__bindgen_anon_1;
        // SAFETY: any bytes are a number.
        Ok(unsafe { if wide { content.value64 } else { content.value.into() } })
    }

    /// The value of a control.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) fn control(&self, control: &Control) -> io::Result<i64> {
        self.exchange_control(vidioc::VIDIOC_G_EXT_CTRLS, control, 0)
    }

    /// Sets a control.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) fn set_control(&self, control: &Control, value: i64) -> io::Result<()> {
        self.exchange_control(vidioc::VIDIOC_S_EXT_CTRLS, control, value).map(|_| ())
    }
}

/// Whether a control of this kind is a number.
fn is_number(kind: ControlType) -> bool {
    matches!(
        kind,
        ControlType::Integer
            | ControlType::Boolean
            | ControlType::Menu
            | ControlType::Button
            | ControlType::Integer64
            | ControlType::Bitmask
            | ControlType::IntegerMenu
    )
}

/// What is asked for: whole frames of this format and size.
pub(super) fn progressive(code: FourCC, (width, height): (u32, u32)) -> Format {
    /// `V4L2_FIELD_NONE`: whole frames.
    const NONE: u32 = 1;
    Format { code, width, height, field: NONE, strides: vec![], colours: Colours::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a C compiler has them for x86-64 and for aarch64.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn requests_have_the_kernels_numbers() {
        let expected: [(Request, Request); 21] = [
            (vidioc::VIDIOC_QUERYCAP, 0x8068_5600),
            (vidioc::VIDIOC_ENUM_FMT, 0xc040_5602),
            (vidioc::VIDIOC_G_FMT, 0xc0d0_5604),
            (vidioc::VIDIOC_S_FMT, 0xc0d0_5605),
            (vidioc::VIDIOC_TRY_FMT, 0xc0d0_5640),
            (vidioc::VIDIOC_REQBUFS, 0xc014_5608),
            (vidioc::VIDIOC_QUERYBUF, 0xc058_5609),
            (vidioc::VIDIOC_QBUF, 0xc058_560f),
            (vidioc::VIDIOC_DQBUF, 0xc058_5611),
            (vidioc::VIDIOC_STREAMON, 0x4004_5612),
            (vidioc::VIDIOC_STREAMOFF, 0x4004_5613),
            (vidioc::VIDIOC_G_PARM, 0xc0cc_5615),
            (vidioc::VIDIOC_S_PARM, 0xc0cc_5616),
            (vidioc::VIDIOC_ENUM_FRAMESIZES, 0xc02c_564a),
            (vidioc::VIDIOC_ENUM_FRAMEINTERVALS, 0xc034_564b),
            (vidioc::VIDIOC_QUERY_EXT_CTRL, 0xc0e8_5667),
            (vidioc::VIDIOC_QUERYMENU, 0xc02c_5625),
            (vidioc::VIDIOC_G_EXT_CTRLS, 0xc020_5647),
            (vidioc::VIDIOC_S_EXT_CTRLS, 0xc020_5648),
            (VIDIOC_DQEVENT, 0x8088_5659),
            (VIDIOC_SUBSCRIBE_EVENT, 0x4020_565a),
        ];
        for (found, expected) in expected {
            assert_eq!(found, expected, "{found:#x}");
        }
    }

    #[test]
    fn controls_are_spelled_as_v4l2_ctl_does() {
        assert_eq!(spelled("Exposure Time, Absolute"), "exposure_time_absolute");
        assert_eq!(spelled("White Balance, Automatic"), "white_balance_automatic");
        assert_eq!(spelled("(Gain) 2x!"), "gain_2x");
    }

    #[test]
    fn names_may_be_rubbish() {
        assert_eq!(text(b"vivid\0\xff\xff"), "vivid");
        assert_eq!(text(&[0xff; 4]), "\u{fffd}".repeat(4));
        assert_eq!(text(b""), "");
    }

    #[test]
    fn a_file_is_no_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = Device::open(file.path()).unwrap();
        let error = device.identity().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOTTY.raw_os_error()));
        assert!(device.controls().is_empty() && device.formats(Planes::Single).is_empty());
    }
}
