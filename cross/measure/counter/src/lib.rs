//! A plugin for `qemu-aarch64` that counts guest instructions between marks, by class.
//!
//! A program marks by calling `getpriority(0x4d41524b, id)`, harmless anywhere else. Each mark
//! prints one line of tab-separated counts since the mark before it, named by the earlier mark:
//! `id total dot mmla multiply_long adalp loads stores`. Lines go to the file `out=FILE`, or to
//! standard error. One guest thread only: the counters are not atomic.
//!
//! With `l1=KIB:WAYS`, `l2=…` and `l3=…` all loads and stores after the first mark go through a
//! model of the data caches, and three columns more say what crossed, in bytes: `l1_fill l2_fill
//! memory` (reads and writes of memory together).
//!
//! Speaks version 1 of the plugin interface (QEMU 4.2 to 8.1, so Debian 12's 7.2), and declares
//! the few functions it needs itself.

mod cache;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use cache::Caches;

type Id = u64;

#[repr(C)]
pub struct Block {
    _private: [u8; 0],
}

#[repr(C)]
pub struct Instruction {
    _private: [u8; 0],
}

type MemoryCallback = extern "C" fn(u32, u32, u64, *mut c_void);
type SyscallCallback = extern "C" fn(Id, u32, i64, u64, u64, u64, u64, u64, u64, u64, u64);

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, callback: extern "C" fn(Id, *mut Block));
    fn qemu_plugin_register_vcpu_tb_exec_inline(block: *mut Block, op: c_int, to: *mut c_void, value: u64);
    fn qemu_plugin_register_vcpu_syscall_cb(id: Id, callback: SyscallCallback);
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Instruction,
        callback: MemoryCallback,
        flags: c_int,
        access: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_mem_is_store(info: u32) -> bool;
    fn qemu_plugin_mem_size_shift(info: u32) -> u32;
    fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const c_void;
}

/// The interface that this plugin speaks.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_int = 0;
/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;
/// `QEMU_PLUGIN_MEM_RW`.
const READ_AND_WRITE: c_int = 3;
/// `getpriority` on aarch64.
const GETPRIORITY: i64 = 141;
/// "MARK".
const MARK: u64 = 0x4d41_524b;

const CLASSES: usize = 7;
const HEADER: &str = "id\ttotal\tdot\tmmla\tmultiply_long\tadalp\tloads\tstores";

static COUNTS: [AtomicU64; CLASSES] = [const { AtomicU64::new(0) }; CLASSES];

/// The counts, and what crossed the caches in lines.
type Counts = ([u64; CLASSES], [u64; 3]);

struct State {
    out: Option<File>,
    /// The id of the last mark and the counts at it.
    last: Option<(u64, Counts)>,
    caches: Option<Caches>,
}

static STATE: Mutex<State> = Mutex::new(State { out: None, last: None, caches: None });
/// Whether there are caches to model, and whether a mark has started it.
static MODELLED: AtomicBool = AtomicBool::new(false);
static STARTED: AtomicBool = AtomicBool::new(false);

/// The class of an A64 instruction other than the total: an index into the counts. Bit
/// patterns from the Arm Architecture Reference Manual, C4.
fn class(word: u32) -> Option<usize> {
    let is = |mask: u32, value: u32| word & mask == value;
    // By vector and by element; U selects the unsigned twin.
    if is(0x9fe0_fc00, 0x0e80_9400) || is(0x9fc0_f400, 0x0f80_e000) {
        return Some(1);
    }
    // SMMLA, UMMLA, USMMLA.
    if is(0xdfe0_f400, 0x4e80_a400) {
        return Some(2);
    }
    // SMLAL, SMLSL, SMULL and their unsigned twins, by vector and by element.
    if is(0x9f20_0c00, 0x0e20_0000) && matches!(word >> 12 & 15, 8 | 10 | 12) {
        return Some(3);
    }
    if is(0x9f00_0400, 0x0f00_0000) && matches!(word >> 12 & 15, 2 | 6 | 10) {
        return Some(3);
    }
    // SADALP, SADDLP and their unsigned twins.
    if is(0x9f3f_bc00, 0x0e20_2800) {
        return Some(4);
    }
    load_or_store(word)
}

fn load_or_store(word: u32) -> Option<usize> {
    // Bit 27 set and bit 25 clear: loads and stores.
    if word & 0x0a00_0000 != 0x0800_0000 {
        return None;
    }
    let load = match (word >> 27 & 7, word >> 24 & 1) {
        // Literal.
        (0b011, 0) => true,
        // Single register: a general one has signed loads with bit 22 clear.
        (0b111, _) => word & 0x0040_0000 != 0 || (word & 0x0400_0000 == 0 && word & 0x0080_0000 != 0),
        // Pairs, structures, exclusives.
        _ => word & 0x0040_0000 != 0,
    };
    Some(if load { 5 } else { 6 })
}

extern "C" fn translate(_id: Id, block: *mut Block) {
    let mut counts = [0u64; CLASSES];
    // SAFETY: QEMU passes a block that is valid during the call, with 4-byte instructions.
    unsafe {
        let instructions = qemu_plugin_tb_n_insns(block);
        counts[0] = instructions as u64;
        let modelled = MODELLED.load(Relaxed);
        for index in 0..instructions {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            if modelled {
                let none = std::ptr::null_mut();
                qemu_plugin_register_vcpu_mem_cb(instruction, memory, NO_REGISTERS, READ_AND_WRITE, none);
            }
            let data = qemu_plugin_insn_data(instruction);
            if let Some(class) = class(data.cast::<u32>().read_unaligned()) {
                counts[class] += 1;
            }
        }
        for (total, count) in COUNTS.iter().zip(counts).filter(|(_, count)| *count > 0) {
            qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, total.as_ptr().cast(), count);
        }
    }
}

extern "C" fn memory(_cpu: u32, info: u32, address: u64, _data: *mut c_void) {
    if !STARTED.load(Relaxed) {
        return;
    }
    let Ok(mut state) = STATE.lock() else { return };
    if let Some(caches) = &mut state.caches {
        // SAFETY: questions about the access that QEMU reports.
        let (write, size) =
            unsafe { (qemu_plugin_mem_is_store(info), 1 << qemu_plugin_mem_size_shift(info)) };
        caches.access(address, size, write);
    }
}

extern "C" fn syscall(
    _id: Id,
    _cpu: u32,
    number: i64,
    which: u64,
    who: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) {
    if number != GETPRIORITY || which != MARK {
        return;
    }
    let now = [0, 1, 2, 3, 4, 5, 6].map(|class: usize| COUNTS[class].load(Relaxed));
    let Ok(mut state) = STATE.lock() else { return };
    STARTED.store(true, Relaxed);
    let crossed = state.caches.as_ref().map(|c| [c.misses[0], c.misses[1], c.memory]);
    if let Some((id, (before, crossed_before))) =
        state.last.replace((who, (now, crossed.unwrap_or_default())))
    {
        let mut line = id.to_string();
        for (now, before) in now.iter().zip(before) {
            line.push_str(&format!("\t{}", now - before));
        }
        for (now, before) in crossed.iter().flatten().zip(crossed_before) {
            line.push_str(&format!("\t{}", (now - before) * 64));
        }
        print(&mut state, &line);
    }
}

/// A plugin has nobody to report a failed write to: QEMU goes on without the line.
fn print(state: &mut State, line: &str) {
    let _ = match &mut state.out {
        Some(file) => writeln!(file, "{line}"),
        None => writeln!(std::io::stderr(), "{line}"),
    };
}

/// Called by QEMU when it loads the plugin.
///
/// # Safety
/// `arguments` are `count` C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let Ok(mut state) = STATE.lock() else { return 1 };
    let mut sizes: Vec<(u64, usize)> = Vec::new();
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: QEMU passes `count` C strings.
        let argument = unsafe { CStr::from_ptr(*arguments.add(index)) }.to_string_lossy();
        let understood = match argument.split_once('=') {
            Some(("out", path)) => File::create(path).map(|file| state.out = Some(file)).is_ok(),
            Some(("l1" | "l2" | "l3", size)) => match size.split_once(':') {
                Some((kib, ways)) => kib.parse().ok().zip(ways.parse().ok()).is_some_and(|size| {
                    sizes.push(size);
                    true
                }),
                None => false,
            },
            _ => false,
        };
        if !understood {
            eprintln!("counter: cannot use `{argument}`; expected out=FILE, a writable file, or l1=KIB:WAYS");
            return 1;
        }
    }
    if sizes.iter().any(|&(kib, ways)| ways == 0 || kib << 4 < ways as u64) {
        eprintln!("counter: a cache must have at least one line in each way");
        return 1;
    }
    let mut header = HEADER.to_string();
    if !sizes.is_empty() {
        header.push_str("\tl1_fill\tl2_fill\tmemory");
        state.caches = Some(Caches::new(&sizes));
        MODELLED.store(true, Relaxed);
    }
    print(&mut state, &header);
    // SAFETY: called while the plugin is being installed, with its own id.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
        qemu_plugin_register_vcpu_syscall_cb(id, syscall);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::class;

    // Encodings as `llvm-mc` prints them.
    #[test]
    fn classes_are_told_apart() {
        let words = [
            (0x4e82_9420, Some(1)), // sdot v0.4s, v1.16b, v2.16b
            (0x4f82_e020, Some(1)), // sdot v0.4s, v1.16b, v2.4b[0]
            (0x4fa2_e820, Some(1)), // sdot v0.4s, v1.16b, v2.4b[3]
            (0x4e82_a420, Some(2)), // smmla v0.4s, v1.16b, v2.16b
            (0x0e22_c020, Some(3)), // smull v0.8h, v1.8b, v2.8b
            (0x4e22_8020, Some(3)), // smlal2 v0.8h, v1.16b, v2.16b
            (0x0f42_2020, Some(3)), // smlal v0.4s, v1.4h, v2.h[0]
            (0x4f52_2820, Some(3)), // smlal2 v0.4s, v1.8h, v2.h[5]
            (0x4e60_6820, Some(4)), // sadalp v0.4s, v1.8h
            (0x4e60_2820, Some(4)), // saddlp v0.4s, v1.8h
            (0xad40_0400, Some(5)), // ldp q0, q1, [x0]
            (0x3dc0_0400, Some(5)), // ldr q0, [x0, #16]
            (0xb980_0001, Some(5)), // ldrsw x1, [x0]
            (0x5800_0040, Some(5)), // ldr x0, #8
            (0x4c40_7000, Some(5)), // ld1 { v0.16b }, [x0]
            (0xad00_0400, Some(6)), // stp q0, q1, [x0]
            (0x3d80_0400, Some(6)), // str q0, [x0, #16]
            (0xf900_0001, Some(6)), // str x1, [x0]
            (0x4ea1_1c20, None),    // mov v0.16b, v1.16b
            (0x4f82_c020, None),    // sqdmulh v0.4s, v1.4s, v2.s[0]
            (0x0f18_9c20, None),    // sqrshrn v0.4h, v1.4s, #8
            (0x8b02_0020, None),    // add x0, x1, x2
            (0x5400_0041, None),    // b.ne #8
        ];
        for (word, expected) in words {
            assert_eq!(class(word), expected, "{word:#010x}");
        }
    }
}
