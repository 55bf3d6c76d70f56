//! The data caches of the running CPU, for the blocking of the kernels.
//!
//! Linux lists them in sysfs when the device tree or the firmware describes them, which that of
//! many Arm boards does not. Those are known by the part number of their cores.

use std::path::Path;

use resight_kernels::CacheSizes;

use crate::part::{Part, text};

/// The data caches of a core whose folder this is.
pub(crate) fn cache_sizes(cpu: &Path) -> CacheSizes {
    listed(cpu).or_else(|| known(Part::of(cpu)?)).unwrap_or_default()
}

/// What `cache/` below `cpu` lists, when that includes the first two levels.
fn listed(cpu: &Path) -> Option<CacheSizes> {
    let (mut l1d, mut l2, mut l3) = (None, None, 0);
    // No CPU has more caches; a gap ends the list.
    for index in 0..16 {
        let cache = cpu.join(format!("cache/index{index}"));
        let Some(level) = text(&cache.join("level")) else { break };
        if text(&cache.join("type")).is_none_or(|kind| kind == "Instruction") {
            continue;
        }
        let Some(size) = text(&cache.join("size")).and_then(|size| bytes(&size)) else { continue };
        match level.as_str() {
            "1" => l1d = Some(size),
            "2" => {
                let cores = text(&cache.join("shared_cpu_list")).and_then(|list| count(&list));
                l2 = Some((size, cores.unwrap_or(1)));
            }
            "3" => l3 = size,
            _ => {}
        }
    }
    let (l2, l2_cores) = l2?;
    Some(CacheSizes { l1d: l1d?, l2, l2_cores, l3 })
}

/// The caches of the boards that have these cores; where boards differ, the smallest.
fn known(part: Part) -> Option<CacheSizes> {
    let kib = |l1d: usize, l2: usize, l2_cores, l3: usize| CacheSizes {
        l1d: l1d << 10,
        l2: l2 << 10,
        l2_cores,
        l3: l3 << 10,
    };
    Some(match part {
        // Raspberry Pi 3 and Zero 2.
        Part::CORTEX_A53 => kib(32, 512, 4, 0),
        // RK3566 has no second level of its own, RK3588 has 128 KiB.
        Part::CORTEX_A55 => kib(32, 128, 1, 512),
        // Jetson Nano.
        Part::CORTEX_A57 => kib(32, 2048, 4, 0),
        // Raspberry Pi 4.
        Part::CORTEX_A72 => kib(32, 1024, 4, 0),
        // Raspberry Pi 5 and RK3588.
        Part::CORTEX_A76 => kib(64, 512, 1, 2048),
        // Jetson Orin.
        Part::CORTEX_A78 | Part::CORTEX_A78AE => kib(64, 256, 1, 2048),
        _ => return None,
    })
}

/// `32K` or `2M`, between a kibibyte and a gibibyte.
fn bytes(size: &str) -> Option<usize> {
    let (number, shift) = match size.strip_suffix('K') {
        Some(number) => (number, 10),
        None => (size.strip_suffix('M')?, 20),
    };
    let number: usize = number.parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| (1 << 10..=1 << 30).contains(bytes))
}

/// CPUs in a list such as `0-3,6`.
fn count(list: &str) -> Option<usize> {
    let cores = list.split(',').map(|part| match part.split_once('-') {
        Some((first, last)) => {
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            last.checked_sub(first)?.checked_add(1)
        }
        None => part.parse::<usize>().ok().map(|_| 1),
    });
    cores.sum::<Option<usize>>().filter(|cores| (1..=1 << 12).contains(cores))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A CPU's folder with caches of `(level, type, size, shared_cpu_list)`.
    fn cpu(caches: &[(&str, &str, &str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (index, &(level, kind, size, shared)) in caches.iter().enumerate() {
            let cache = folder.path().join(format!("cache/index{index}"));
            fs::create_dir_all(&cache).unwrap();
            for (name, value) in
                [("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)]
            {
                fs::write(cache.join(name), format!("{value}\n")).unwrap();
            }
        }
        folder
    }

    #[test]
    fn sizes_are_read_as_linux_lists_them() {
        let folder = cpu(&[
            ("1", "Data", "64K", "4"),
            ("1", "Instruction", "48K", "4"),
            ("2", "Unified", "512K", "4-5"),
            ("3", "Unified", "3072K", "0-7"),
        ]);
        let expected = CacheSizes { l1d: 64 << 10, l2: 512 << 10, l2_cores: 2, l3: 3 << 20 };
        assert_eq!(listed(folder.path()), Some(expected));
    }

    #[test]
    fn without_a_third_level_there_is_none() {
        let folder = cpu(&[("1", "Data", "32K", "0"), ("2", "Unified", "1M", "0-3")]);
        let expected = CacheSizes { l1d: 32 << 10, l2: 1 << 20, l2_cores: 4, l3: 0 };
        assert_eq!(listed(folder.path()), Some(expected));
    }

    #[test]
    fn an_incomplete_list_is_none() {
        assert_eq!(listed(cpu(&[]).path()), None);
        assert_eq!(listed(cpu(&[("1", "Data", "32K", "0")]).path()), None);
        let unreadable = [("1", "Data", "32K", "0"), ("2", "Unified", "many", "0")];
        assert_eq!(listed(cpu(&unreadable).path()), None);
    }

    #[test]
    fn a_core_without_a_list_is_known_by_its_part_number() {
        let folder = cpu(&[]);
        assert_eq!(cache_sizes(folder.path()), CacheSizes::default());
        let registers = folder.path().join("regs/identification");
        fs::create_dir_all(&registers).unwrap();
        fs::write(registers.join("midr_el1"), "0x00000000410fd083\n").unwrap();
        let expected = CacheSizes { l1d: 32 << 10, l2: 1 << 20, l2_cores: 4, l3: 0 };
        assert_eq!(cache_sizes(folder.path()), expected);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        assert_eq!(bytes("0K"), None);
        assert_eq!(bytes("99999999999999999999K"), None);
        assert_eq!(bytes("18014398509481984M"), None);
        assert_eq!(bytes("512"), None);
        assert_eq!(count("0-3,6"), Some(5));
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("3-0"), None);
        assert_eq!(count(""), None);
        assert_eq!(count("0-18446744073709551615"), None);
    }
}
