//! ICC profiles of photographs, ISO 15076-1: colours of other spaces become sRGB's.
//!
//! Networks are trained on sRGB numbers. A telephone's Display P3 or a camera's Adobe RGB has other
//! numbers for the same colours. Profiles of three primaries and a curve each, and of one curve for
//! grey, are converted, with the same bits on every machine; profiles made of tables, and those of
//! printers, are named and left alone.

/// Steps of the table from linear light to sRGB: the steepest part of its curve takes a fifth of a
/// level in one.
const STEPS: usize = 1 << 14;

/// What differs by no more levels from sRGB is sRGB, written in another way.
const SAME: i32 = 2;

/// XYZ, relative to the white D50, to linear sRGB: the inverse of the primaries of IEC 61966-2-1,
/// adapted from D65 by Bradford's transform.
const FROM_XYZ: [[f64; 3]; 3] = [
    [3.134_186_4, -1.617_209_0, -0.490_694_1],
    [-0.978_748_5, 1.916_130_1, 0.033_433_4],
    [0.071_963_9, -0.228_993_8, 1.405_753_7],
];

/// What an ICC profile is good for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Profile {
    /// Numbers are sRGB's already.
    Srgb,
    /// Numbers that [`Conversion::apply`] makes sRGB's.
    Converted(Box<Conversion>),
    /// Something that is left alone.
    Unknown,
}

/// From the numbers of a profile to those of sRGB.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conversion {
    /// Linear light of each channel's values.
    linear: [[f64; 256]; 3],
    /// From linear light of the profile to that of sRGB, by rows.
    matrix: [[f64; 3]; 3],
    /// From linear light to sRGB's values, in equal steps from 0 to 1.
    encoded: Vec<u8>,
}

impl Conversion {
    /// Converts RGB bytes in place.
    pub(crate) fn apply(&self, rgb: &mut [u8]) {
        for pixel in rgb.chunks_exact_mut(3) {
            pixel.copy_from_slice(&self.pixel([pixel[0], pixel[1], pixel[2]]));
        }
    }

    fn pixel(&self, rgb: [u8; 3]) -> [u8; 3] {
        let linear: [f64; 3] = std::array::from_fn(|channel| self.linear[channel][usize::from(rgb[channel])]);
        self.matrix.map(|row| {
            let light = row[0] * linear[0] + row[1] * linear[1] + row[2] * linear[2];
            self.encoded[(light.clamp(0.0, 1.0) * (STEPS - 1) as f64 + 0.5) as usize]
        })
    }

    /// Whether it changes next to nothing.
    fn is_srgb(&self) -> bool {
        let levels = (0..=255).step_by(15);
        let greys = levels.clone().map(|value| [value; 3]);
        let colours = levels.flat_map(|value| [[value, 0, 0], [0, value, 0], [0, 0, value], [255, value, 0]]);
        greys.chain(colours).all(|colour| {
            let converted = self.pixel(colour);
            colour.iter().zip(converted).all(|(a, b)| (i32::from(*a) - i32::from(b)).abs() <= SAME)
        })
    }
}

/// The curve of IEC 61966-2-1, from linear light to values, both `0..=1`.
fn encode(light: f64) -> f64 {
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * libm::pow(light, 1.0 / 2.4) - 0.055 }
}

/// Reads a profile. Gives its description, too, as far as it has one.
pub(crate) fn read(profile: &[u8]) -> (Profile, String) {
    let name = tag(profile, *b"desc").and_then(description).unwrap_or_else(|| "without a name".into());
    let Some(conversion) = conversion(profile) else { return (Profile::Unknown, name) };
    let profile = if conversion.is_srgb() { Profile::Srgb } else { Profile::Converted(Box::new(conversion)) };
    (profile, name)
}

fn conversion(profile: &[u8]) -> Option<Conversion> {
    let (linear, matrix) = match profile.get(16..20)? {
        b"GRAY" => {
            let curve = curve(tag(profile, *b"kTRC")?)?;
            ([curve; 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        }
        // A profile with tables as well means them to be used.
        b"RGB " if tag(profile, *b"A2B0").is_none() => {
            let curves = [b"rTRC", b"gTRC", b"bTRC"].map(|name| tag(profile, *name).and_then(curve));
            let [Some(red), Some(green), Some(blue)] = curves else { return None };
            let primaries = [b"rXYZ", b"gXYZ", b"bXYZ"].map(|name| tag(profile, *name).and_then(xyz));
            let [Some(r), Some(g), Some(b)] = primaries else { return None };
            let matrix = FROM_XYZ.map(|row| {
                [r, g, b].map(|colour| row[0] * colour[0] + row[1] * colour[1] + row[2] * colour[2])
            });
            ([red, green, blue], matrix)
        }
        _ => return None,
    };
    let step = |index: usize| (encode(index as f64 / (STEPS - 1) as f64) * 255.0 + 0.5) as u8;
    Some(Conversion { linear, matrix, encoded: (0..STEPS).map(step).collect() })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A number with 16 fractional bits.
fn fixed(bytes: &[u8], at: usize) -> Option<f64> {
    Some(f64::from(number(bytes, at)? as i32) / 65536.0)
}

/// The content of a tag.
fn tag(profile: &[u8], name: [u8; 4]) -> Option<&[u8]> {
    let count = number(profile, 128)?.min(1024) as usize;
    let entry =
        (0..count).map(|index| 132 + 12 * index).find(|at| profile.get(*at..*at + 4) == Some(&name[..]))?;
    let (begin, length) = (number(profile, entry + 4)? as usize, number(profile, entry + 8)? as usize);
    profile.get(begin..begin.checked_add(length)?)
}

fn xyz(tag: &[u8]) -> Option<[f64; 3]> {
    (tag.get(..4)? == b"XYZ ").then_some(())?;
    Some([fixed(tag, 8)?, fixed(tag, 12)?, fixed(tag, 16)?])
}

/// Linear light of each value, from a tag `curv` or `para`.
fn curve(tag: &[u8]) -> Option<[f64; 256]> {
    let value = |index: usize| index as f64 / 255.0;
    match tag.get(..4)? {
        b"curv" => {
            let count = number(tag, 8)? as usize;
            let entry = |index: usize| {
                let bytes = tag.get(12 + 2 * index..14 + 2 * index)?;
                Some(f64::from(u16::from_be_bytes([bytes[0], bytes[1]])))
            };
            match count {
                0 => Some(std::array::from_fn(value)),
                1 => {
                    let gamma = entry(0)? / 256.0;
                    Some(std::array::from_fn(|index| libm::pow(value(index), gamma)))
                }
                2..=65536 => {
                    entry(count - 1)?;
                    Some(std::array::from_fn(|index| {
                        let place = value(index) * (count - 1) as f64;
                        let low = (place as usize).min(count - 2);
                        let (a, b) = (entry(low).unwrap_or(0.0), entry(low + 1).unwrap_or(0.0));
                        (a + (b - a) * (place - low as f64)) / 65535.0
                    }))
                }
                _ => None,
            }
        }
        b"para" => {
            let kind = u16::from_be_bytes([*tag.get(8)?, *tag.get(9)?]);
            let [g, a, b, c, d, e, f] =
                std::array::from_fn(|index| fixed(tag, 12 + 4 * index).unwrap_or(0.0));
            let needed = *[1, 3, 4, 5, 7].get(usize::from(kind))?;
            fixed(tag, 12 + 4 * (needed - 1))?;
            let power = |x: f64| libm::pow((a * x + b).max(0.0), g);
            Some(std::array::from_fn(|index| {
                let x = value(index);
                match kind {
                    0 => libm::pow(x, g),
                    1 if a * x + b >= 0.0 => power(x),
                    1 => 0.0,
                    2 if a * x + b >= 0.0 => power(x) + c,
                    2 => c,
                    3 if x >= d => power(x),
                    3 => c * x,
                    _ if x >= d => power(x) + e,
                    _ => c * x + f,
                }
            }))
        }
        _ => None,
    }
}

/// The text of a tag `desc` or `mluc`.
fn description(tag: &[u8]) -> Option<String> {
    let text = match tag.get(..4)? {
        b"desc" => {
            let length = number(tag, 8)? as usize;
            String::from_utf8_lossy(tag.get(12..12usize.checked_add(length)?)?).into_owned()
        }
        b"mluc" => {
            let (length, at) = (number(tag, 20)? as usize, number(tag, 24)? as usize);
            let units = tag.get(at..at.checked_add(length)?)?.chunks_exact(2);
            let units: Vec<u16> = units.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => return None,
    };
    let text: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn fixed_bytes(value: f64) -> [u8; 4] {
        ((value * 65536.0).round() as i32).to_be_bytes()
    }

    /// A tag `curv` of one power.
    pub(crate) fn gamma(power: f64) -> Vec<u8> {
        [&b"curv\0\0\0\0\0\0\0\x01"[..], &((power * 256.0).round() as u16).to_be_bytes()].concat()
    }

    /// A tag `para` with sRGB's own curve.
    pub(crate) fn srgb_curve() -> Vec<u8> {
        let numbers = [2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.04045].map(fixed_bytes).concat();
        [&b"para\0\0\0\0\0\x03\0\0"[..], &numbers].concat()
    }

    /// A profile of three primaries, whose XYZ are relative to D50, and one curve.
    pub(crate) fn profile(name: &str, primaries: [[f64; 3]; 3], curve: &[u8]) -> Vec<u8> {
        let xyz = |colour: [f64; 3]| [b"XYZ \0\0\0\0", &colour.map(fixed_bytes).concat()[..]].concat();
        let length = (name.len() as u32 + 1).to_be_bytes();
        let text = [&b"desc\0\0\0\0"[..], &length, name.as_bytes(), b"\0"].concat();
        let tags: [(&[u8; 4], Vec<u8>); 7] = [
            (b"desc", text),
            (b"rXYZ", xyz(primaries[0])),
            (b"gXYZ", xyz(primaries[1])),
            (b"bXYZ", xyz(primaries[2])),
            (b"rTRC", curve.to_vec()),
            (b"gTRC", curve.to_vec()),
            (b"bTRC", curve.to_vec()),
        ];
        let mut profile = vec![0; 128];
        profile[16..20].copy_from_slice(b"RGB ");
        profile.extend_from_slice(&(tags.len() as u32).to_be_bytes());
        let mut at = 132 + 12 * tags.len();
        for (name, content) in &tags {
            profile.extend_from_slice(*name);
            profile.extend_from_slice(&(at as u32).to_be_bytes());
            profile.extend_from_slice(&(content.len() as u32).to_be_bytes());
            at += content.len();
        }
        profile.extend(tags.into_iter().flat_map(|(_, content)| content));
        profile
    }

    // By their chromaticities, with the white D65, adapted to D50 by Bradford's transform.
    pub(crate) const SRGB: [[f64; 3]; 3] =
        [[0.43604, 0.22248, 0.01392], [0.38511, 0.71691, 0.09707], [0.14305, 0.06061, 0.71391]];
    const ADOBE_RGB: [[f64; 3]; 3] =
        [[0.60974, 0.31111, 0.01947], [0.20527, 0.62568, 0.06087], [0.14919, 0.06321, 0.74456]];
    pub(crate) const DISPLAY_P3: [[f64; 3]; 3] =
        [[0.51512, 0.24119, -0.00105], [0.29198, 0.69224, 0.04188], [0.15710, 0.06657, 0.78407]];

    fn converted(primaries: [[f64; 3]; 3], curve: &[u8]) -> Box<Conversion> {
        match read(&profile("x", primaries, curve)) {
            (Profile::Converted(conversion), _) => conversion,
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn srgb_is_left_alone_however_it_is_written() {
        assert_eq!(read(&profile("sRGB", SRGB, &srgb_curve())), (Profile::Srgb, "sRGB".into()));
        let points = (0..1024_u32).map(|index| {
            let x = f64::from(index) / 1023.0;
            let light = if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) };
            ((light * 65535.0).round() as u16).to_be_bytes()
        });
        let table = [&b"curv\0\0\0\0\0\0\x04\0"[..], &points.collect::<Vec<_>>().concat()].concat();
        assert_eq!(read(&profile("by a table", SRGB, &table)).0, Profile::Srgb);
    }

    /// The values were computed from the standards' chromaticities and curves, apart from this code.
    #[test]
    fn colours_keep_their_look_in_other_numbers() {
        let p3 = converted(DISPLAY_P3, &srgb_curve());
        let adobe = converted(ADOBE_RGB, &gamma(2.199_218_75));
        let table = [
            (&p3, [0, 0, 0], [0, 0, 0]),
            (&p3, [255, 255, 255], [255, 255, 255]),
            (&p3, [128, 128, 128], [128, 128, 128]),
            (&p3, [234, 51, 35], [255, 0, 0]),
            (&p3, [200, 100, 50], [215, 93, 31]),
            (&p3, [60, 120, 180], [30, 122, 185]),
            (&adobe, [255, 255, 255], [255, 255, 255]),
            (&adobe, [200, 100, 50], [227, 100, 42]),
            (&adobe, [100, 150, 80], [66, 151, 74]),
            (&adobe, [60, 120, 180], [0, 121, 184]),
        ];
        for (conversion, colour, expected) in table {
            let found = conversion.pixel(colour);
            let is_near = found.iter().zip(expected).all(|(a, b)| (i32::from(*a) - b).abs() <= 1);
            assert!(is_near, "{colour:?} became {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn names_are_read_and_rubbish_is_survived() {
        let whole = profile("Display P3", DISPLAY_P3, &srgb_curve());
        assert_eq!(read(&whole).1, "Display P3");
        for length in 0..whole.len() {
            read(&whole[..length]);
            let mut flipped = whole.clone();
            flipped[length] ^= 0xff;
            read(&flipped);
        }
        assert_eq!(read(&[]), (Profile::Unknown, "without a name".into()));
        let mut cmyk = whole;
        cmyk[16..20].copy_from_slice(b"CMYK");
        assert_eq!(read(&cmyk).0, Profile::Unknown);
    }
}
