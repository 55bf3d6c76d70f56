//! Which core a CPU is, by the part number that its maker gave it.

use std::fs;
use std::path::Path;

/// A core designed by Arm, by the part number in its main identification register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part(u16);

impl Part {
    pub(crate) const CORTEX_A53: Self = Self(0xd03);
    pub(crate) const CORTEX_A55: Self = Self(0xd05);
    pub(crate) const CORTEX_A57: Self = Self(0xd07);
    pub(crate) const CORTEX_A72: Self = Self(0xd08);
    pub(crate) const CORTEX_A76: Self = Self(0xd0b);
    pub(crate) const CORTEX_A78: Self = Self(0xd41);
    pub(crate) const CORTEX_A78AE: Self = Self(0xd42);

    /// The core whose folder below `/sys/devices/system/cpu` this is, if it is Arm's and Linux tells.
    pub(crate) fn of(cpu: &Path) -> Option<Self> {
        const ARM: u64 = 0x41;
        let text = text(&cpu.join("regs/identification/midr_el1"))?;
        let register = u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
        (register >> 24 & 0xff == ARM).then_some(Self((register >> 4 & 0xfff) as u16))
    }

    /// Whether it is one that takes instructions in their order and has `sdot` but not `smmla`.
    pub(crate) fn takes_dot_in_order(self) -> bool {
        self == Self::CORTEX_A55
    }
}

/// The content of a small file without the space around it.
pub(crate) fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_known_by_its_register() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Part::of(folder.path()), None);
        let registers = folder.path().join("regs/identification");
        fs::create_dir_all(&registers).unwrap();
        for (register, part) in [
            ("0x00000000410fd083\n", Some(Part::CORTEX_A72)),
            ("0x00000000412fd050\n", Some(Part::CORTEX_A55)),
            // The same number by another maker, and no number.
            ("0x00000000510fd083\n", None),
            ("none", None),
        ] {
            fs::write(registers.join("midr_el1"), register).unwrap();
            assert_eq!(Part::of(folder.path()), part, "{register}");
        }
    }
}
