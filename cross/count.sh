#!/bin/sh
# Guest instructions of every layer of a ResNet, and in total, by instruction class.
#
#   cross/count.sh [CPU] [ISA] [DEPTH] [CACHES]        defaults: cortex-a76 neon_dot 50
#
# CACHES adds modelled traffic of a second run, e.g. l1=64:4,l2=512:8,l3=2048:16 (Raspberry Pi 5)
# or l1=32:2,l2=1024:16 (Raspberry Pi 4), in KiB and ways; the layers are packed for them.
# CPUs: cortex-a72 (neon_mlal), cortex-a76 (neon_dot), max,sve=off,sme=off,pauth-impdef=on
# (neon_i8mm). CARGO chooses another cargo than the default, e.g. CARGO="cargo +NAME".
# Needs qemu-aarch64 with plugin support (Debian's qemu-user 7.2).
set -eu
cpu=${1:-cortex-a76}
isa=${2:-neon_dot}
depth=${3:-50}
caches=${4:-}
runs=${caches:+2}
runs=${runs:-1}
# The sizes of l1, l2 and l3, 0 where there is none.
sizes=$(printf '%s,l3=0:1' "$caches" | sed -n 's/^l1=\([0-9]*\):[^,]*,l2=\([0-9]*\):[^,]*,l3=\([0-9]*\).*/\1,\2,\3/p')
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

qemu-aarch64 -cpu "$cpu" -plugin "$plugin,out=$folder/counts${caches:+,$caches}" \
    "$layers" --isa "$isa" --depth "$depth" --runs "$runs" ${sizes:+--caches "$sizes"} \
    >"$folder/names" 2>"$folder/errors" || { cat "$folder/errors" >&2; exit 1; }

# Mark 65536 ends a layer; what follows it is not counted.
awk -F '\t' '
    function row(name, kernel, macs, n, whole) {
        printf "%-14s %-24s %8.0f %7.3f", name, kernel, n[2] / 1e3, macs ? n[2] / macs * 16 : 0
        for (i = 3; i <= columns; i++) printf " %7.0f", n[i] / 1e3
        printf " %7.2f\n", n[2] / whole * 100
    }
    NR == FNR { name[$1] = $2; kernel[$1] = $3; macs[$1] = $4; next }
    FNR == 1 {
        columns = NF
        printf "%-14s %-24s %8s %7s", "layer", "kernel", "k_instr", "per_16"
        split("dot mmla mull adalp loads stores kB_L1 kB_L2 kB_mem", head, " ")
        for (i = 3; i <= columns; i++) printf " %7s", head[i - 2]
        printf " %7s\n", "percent"
        next
    }
    $1 == 65536 { next }
    {
        order[++layers] = $1
        for (i = 2; i <= columns; i++) { counts[$1, i] = $i; sum[i] += $i }
        all += macs[$1]
    }
    END {
        for (layer = 1; layer <= layers; layer++) {
            id = order[layer]
            for (i = 2; i <= columns; i++) n[i] = counts[id, i]
            row(name[id], kernel[id], macs[id], n, sum[2])
        }
        row("total", "", all, sum, sum[2])
    }' "$folder/names" "$folder/counts"
