#!/bin/sh
# Guest instructions of every layer of a ResNet, and in total, by instruction class.
#
#   cross/count.sh [CPU] [ISA] [DEPTH]        defaults: cortex-a76 neon_dot 50
#
# CPUs: cortex-a72 (neon_mlal), cortex-a76 (neon_dot), max,sve=off,sme=off,pauth-impdef=on
# (neon_i8mm). CARGO chooses another cargo than the default, e.g. CARGO="cargo +NAME".
# Needs qemu-aarch64 with plugin support (Debian's qemu-user 7.2).
set -eu
cpu=${1:-cortex-a76}
isa=${2:-neon_dot}
depth=${3:-50}
cargo=${CARGO:-cargo}
root=$(cd "$(dirname "$0")/.." && pwd)
target=aarch64-unknown-linux-gnu

cd "$root"
cargo build --quiet --release --manifest-path cross/counter/Cargo.toml --target-dir target/counter
$cargo build --quiet --release -p resight-kernels --example layers --target $target
plugin=target/counter/release/libcounter.so
layers=target/$target/release/examples/layers
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

qemu-aarch64 -cpu "$cpu" -plugin "$plugin,out=$folder/counts" "$layers" --isa "$isa" --depth "$depth" \
    >"$folder/names" 2>"$folder/errors" || { cat "$folder/errors" >&2; exit 1; }

# Mark 65536 ends a layer; what follows it is not counted.
awk -F '\t' '
    NR == FNR { name[$1] = $2; kernel[$1] = $3; macs[$1] = $4; next }
    FNR == 1 {
        printf "%-14s %-24s %8s %7s  %7s %7s %7s %7s %7s %7s\n", "layer", "kernel", "k_instr", "per_16",
            "dot", "mmla", "mull", "adalp", "loads", "stores"
        next
    }
    $1 == 65536 { next }
    {
        for (i = 2; i <= 8; i++) sum[i] += $i
        all += macs[$1]
        printf "%-14s %-24s %8.0f %7.3f  %7.0f %7.0f %7.0f %7.0f %7.0f %7.0f\n", name[$1], kernel[$1],
            $2 / 1e3, macs[$1] ? $2 / macs[$1] * 16 : 0, $3 / 1e3, $4 / 1e3, $5 / 1e3, $6 / 1e3, $7 / 1e3, $8 / 1e3
    }
    END {
        printf "%-14s %-24s %8.0f %7.3f  %7.0f %7.0f %7.0f %7.0f %7.0f %7.0f\n", "total", "", sum[2] / 1e3,
            sum[2] / all * 16, sum[3] / 1e3, sum[4] / 1e3, sum[5] / 1e3, sum[6] / 1e3, sum[7] / 1e3, sum[8] / 1e3
    }' "$folder/names" "$folder/counts"
