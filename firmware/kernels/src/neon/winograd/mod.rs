//! Exact integer Winograd for 3x3 convolutions of stride 1 on ARMv8.0: F(4x4, 3x3), with
//! F(3, 3) and F(2, 3) at the edges.
//!
//! # Mathematics
//! After Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). An output
//! segment of `m` is computed from `m + 2` inputs by multiplication at `m + 2` points: 0, 1, -1,
//! 2, -2 and infinity for `m = 4`; without -2 for 3, without 2 for 2. With `M_i` the product
//! of `x - p_j` over the other finite points and `N_i = M_i(p_i)`:
//! - the weights are evaluated: `u_i = g_0 + g_1 p_i + g_2 p_i^2`, at infinity `g_2`;
//! - the input is transformed by the coefficients of `M_i`, at infinity by those of the product
//!   over all points;
//! - the output is `y_r = sum((24 / N_i) p_i^r u_i v_i)`, plus 24 times infinity at `r = m - 1`.
//!
//! Everything is an integer: the divisions by `N_i` became the factor 24. The weights do not
//! depend on `m`, so that all tiles share them, and a tile at the edge only takes part in the
//! points that it needs. In two dimensions the result is `576 y`.
//!
//! # Exactness
//! Transformed weights stay within 49 x 127 and inputs within 100 x 128: both fit 16 bits. Sums
//! of products overflow 32 bits, and may: `576 y` is right modulo 2^32. As 9 has an inverse,
//! multiplication by it leaves `64 y` modulo 2^32, and an arithmetic shift the exact `y` when
//! `|y| < 2^25`: which [`WINOGRAD`](crate::convolution::winograd::WINOGRAD) checks for each channel.
//!
//! # Memory
//! Transformed weights are eight times as large as the int8 ones: on a small board their
//! traffic would cost more than the multiplications save. They are transformed as they are
//! needed instead, a cache-sized piece at a time, which costs a few percent.

mod driver;
mod products;
mod scratch;
mod transforms;

pub(crate) use driver::pack;
