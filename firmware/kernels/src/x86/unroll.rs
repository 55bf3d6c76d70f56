//! Loops over the rows of a tile, written out.

/// Calls `$function::<N>($tile)` with the `N` of 1 to `ROWS` that `$tile.rows` is.
macro_rules! with_rows {
    ($function:ident($tile:ident), $($count:literal)*) => {
        match $tile.rows {
            $($count => $function::<$count>($tile),)*
            _ => $function::<ROWS>($tile),
        }
    };
}
pub(super) use with_rows;

/// Runs `$body` with each `$row` below `$count`, written out: an array of accumulators that is
/// indexed by a variable would go through memory.
macro_rules! each_row {
    ($row:ident < $count:expr, $body:expr) => {
        each_row!($row < $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($row:ident < $count:expr, $body:expr, $($index:literal)*) => {
        $(if $index < $count {
            let $row = $index;
            $body
        })*
    };
}
pub(super) use each_row;
