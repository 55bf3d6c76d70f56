#!/usr/bin/env python3
"""Measures `resight teach` on photographs whose answer is known, as lines for docs/figures.

For each network and each set (FOLDER/SET/train/CLASS, FOLDER/SET/test/CLASS): accuracy by cross-validation
with its interval, accuracy on the test part, how well `unknown` tells the test part from the other sets, and
processor seconds and peak memory of teaching. For each inspection (FOLDER/SET/train/good,
FOLDER/SET/test/good and others): AUROC on the test part. Example:

    cargo build --release -p resight
    tests/measure_teaching.py --folder teach --sets flowers waste --others tiles --inspections tiles \\
        --networks resnet18.onnx resnet50.onnx
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--resight", type=Path, default=REPOSITORY / "target/release/resight", metavar="FILE")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    parser.add_argument("--sets", nargs="*", default=[], metavar="SET", help="taught one by one")
    parser.add_argument("--others", nargs="*", default=[], metavar="SET", help="further sets that are unfamiliar")
    parser.add_argument("--inspections", nargs="*", default=[], metavar="SET")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--work", type=Path, help="folder for models and caches, kept")
    return parser.parse_args()


def run(options, *command):
    """The JSON that a command prints, its processor seconds and its peak memory in MB."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([options.resight, *map(str, command), "--json"], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(map(str, command))}: failed")
        output.seek(0)
        return json.load(output), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def teach(options, work, network, name):
    train, test = (options.folder / name / part for part in ("train", "test"))
    model = work / f"{network.stem}-{name}.resight.tar"
    taught, seconds, memory = run(options, "teach", network, train, "-o", model, "--views", options.views)
    accuracy = taught["taught"]["figures"]["accuracy"]
    tested, _, _ = run(options, "evaluate", model, "--images", test)
    low, value, high = (100 * accuracy[key] for key in ("low", "value", "high"))
    inside = "within" if low <= tested[0]["top1"] <= high else "outside"
    line = f"| {network.stem} | {name} | {value:.1f} ({low:.1f} to {high:.1f}) | {tested[0]['top1']:.1f} | {inside}"
    print(f"{line} | {seconds:.0f} | {memory:.0f} | {taught['computed']} |", flush=True)
    others = [other for other in [*options.sets, *options.others] if other != name]
    folders = [argument for other in others for argument in ("--unfamiliar", options.folder / other / "test")]
    if folders:
        [told], _, _ = run(options, "evaluate", model, "--images", test, *folders)
        for other, result in zip(others, told["folders"]):
            print(
                f"|   | {name} against {other} | AUROC {result['auroc']:.2f} | {result['found']:.1f} % rejected"
                f" ({result['found_at_one_percent']:.1f} % where 1 % of {name} are),"
                f" {told['false_alarms']:.1f} % of {name} | | | | |",
                flush=True,
            )


def inspect(options, work, network, name):
    train, test = (options.folder / name / part for part in ("train", "test"))
    model = work / f"{network.stem}-{name}-normal.resight.tar"
    command = ("teach", network, "--normal", train / "good", "-o", model)
    taught, seconds, memory = run(options, *command)
    report = taught["inspection"]
    [result], _, _ = run(options, "evaluate", model, "--images", test)
    kinds = ", ".join(f"{kind['name']} {kind['auroc']:.1f}" for kind in result["folders"])
    share = 100 * report["macs"] / report["backbone_macs"]
    print(
        f"| {network.stem} | {name}, by {report['figures']['comparison']} | AUROC {result['others']['auroc']:.2f}"
        f" ({kinds}) | {result['others']['found']:.1f} % found, {result['false_alarms']:.1f} % false alarms"
        f" | {share:.1f} % of the backbone's multiplications | {seconds:.0f} | {memory:.0f} | |",
        flush=True,
    )


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(exist_ok=True)
        print("| network | set | by cross-validation, % | on the test part, % | | CPU s | MB | computed |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for network in options.networks:
            for name in options.inspections:
                inspect(options, work, network, name)
            for name in options.sets:
                teach(options, work, network, name)


main()
