//! The products at each point: a matrix product of 16-bit numbers.

use core::arch::aarch64::{vdupq_n_s32, vld1q_s32, vst1q_s32};
use core::arch::asm;

use crate::convolution::winograd::{COLUMNS, COMPONENTS};

/// One input channel: `$rows` are transformed inputs and four accumulators of each tile.
macro_rules! channel {
    ($lane:literal, $([$activation:tt $a:tt $b:tt $c:tt $d:tt])*) => {
        concat!(
            "ldp q6, q7, [{weights}], #32\n",
            $("smlal ", $a, ".4s, v6.4h, ", $activation, ".h[", $lane, "]\n",)*
            $("smlal2 ", $b, ".4s, v6.8h, ", $activation, ".h[", $lane, "]\n",)*
            $("smlal ", $c, ".4s, v7.4h, ", $activation, ".h[", $lane, "]\n",)*
            $("smlal2 ", $d, ".4s, v7.8h, ", $activation, ".h[", $lane, "]\n",)*
        )
    };
}

macro_rules! product {
    (
        $name:ident, $count:literal, [$($load:literal)*],
        $([$index:literal $activation:tt $a:tt $b:tt $c:tt $d:tt])*
    ) => {
        /// # Safety
        /// As [`multiply`].
        unsafe fn $name(input: *const i16, weights: *const i16, channels: usize, products: *mut i32, add: bool) {
            // SAFETY: as stated.
            unsafe {
                let mut rows = [[vdupq_n_s32(0); 4]; $count];
                if add {
                    for (index, vector) in rows.as_flattened_mut().iter_mut().enumerate() {
                        *vector = vld1q_s32(products.add(index * 4));
                    }
                }
                asm!(
                    "2:",
                    $($load, "\n",)*
                    channel!("0", $([$activation $a $b $c $d])*),
                    channel!("1", $([$activation $a $b $c $d])*),
                    channel!("2", $([$activation $a $b $c $d])*),
                    channel!("3", $([$activation $a $b $c $d])*),
                    channel!("4", $([$activation $a $b $c $d])*),
                    channel!("5", $([$activation $a $b $c $d])*),
                    channel!("6", $([$activation $a $b $c $d])*),
                    channel!("7", $([$activation $a $b $c $d])*),
                    "add {weights}, {weights}, {next}",
                    "subs {steps}, {steps}, #1",
                    "b.ne 2b",
                    input = inout(reg) input => _,
                    weights = inout(reg) weights => _,
                    steps = inout(reg) channels / 8 => _,
                    // From the end of one component to the next 8 channels of it.
                    next = in(reg) (COMPONENTS - 1) * 8 * COLUMNS * size_of::<i16>(),
                    $(
                        inout($a) rows[$index][0],
                        inout($b) rows[$index][1],
                        inout($c) rows[$index][2],
                        inout($d) rows[$index][3],
                    )*
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    options(nostack, readonly),
                );
                for (index, vector) in rows.as_flattened().iter().enumerate() {
                    vst1q_s32(products.add(index * 4), *vector);
                }
            }
        }
    };
}

product!(product_6, 6, ["ldp q0, q1, [{input}], #96" "ldp q2, q3, [{input}, #-64]" "ldp q4, q5, [{input}, #-32]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]
    [4 "v4" "v24" "v25" "v26" "v27"]
    [5 "v5" "v28" "v29" "v30" "v31"]);
product!(product_5, 5, ["ldp q0, q1, [{input}], #96" "ldp q2, q3, [{input}, #-64]" "ldr q4, [{input}, #-32]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]
    [4 "v4" "v24" "v25" "v26" "v27"]);
product!(product_4, 4, ["ldp q0, q1, [{input}], #96" "ldp q2, q3, [{input}, #-64]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]
    [3 "v3" "v20" "v21" "v22" "v23"]);
product!(product_3, 3, ["ldp q0, q1, [{input}], #96" "ldr q2, [{input}, #-64]"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]
    [2 "v2" "v16" "v17" "v18" "v19"]);
product!(product_2, 2, ["ldp q0, q1, [{input}], #96"],
    [0 "v0" "v8" "v9" "v10" "v11"]
    [1 "v1" "v12" "v13" "v14" "v15"]);
product!(product_1, 1, ["ldr q0, [{input}], #96"],
    [0 "v0" "v8" "v9" "v10" "v11"]);

/// The products of `rows` tiles with 16 output channels, summed over the input channels.
///
/// # Safety
/// `input` has `channels / 8` times `[6 tiles][8]`, `weights` a component of `[8][16]` for each
/// 8 channels, and `products` `rows` times 16, initialised where they are to be added to; `channels` is a
/// positive multiple of 8.
pub(super) unsafe fn multiply(
    rows: usize,
    input: *const i16,
    weights: *const i16,
    channels: usize,
    products: *mut i32,
    add: bool,
) {
    // SAFETY: as stated.
    unsafe {
        match rows {
            6.. => product_6(input, weights, channels, products, add),
            5 => product_5(input, weights, channels, products, add),
            4 => product_4(input, weights, channels, products, add),
            3 => product_3(input, weights, channels, products, add),
            2 => product_2(input, weights, channels, products, add),
            _ => product_1(input, weights, channels, products, add),
        }
    }
}
