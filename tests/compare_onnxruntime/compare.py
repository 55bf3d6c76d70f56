#!/usr/bin/env python3
"""Times resight against onnxruntime's, OpenVINO's or LiteRT's int8 on the same network, on this machine.

A random ResNet or an ONNX file: resight quantises it by itself, onnxruntime statically, with uint8
activations and per-channel int8 weights of the full range; in operator form for its own turns, as QDQ
for OpenVINO's. For LiteRT it is an int8 TFLite file, which resight converts. They take turns within one
run, so that what else the machine does meets all of them. Prints the ratio of the medians; below 1
resight is faster.

`RESIGHT_ISA` and `ONEDNN_MAX_CPU_ISA` (AVX512_CORE_VNNI) hold resight and OpenVINO to fewer
instructions than the CPU has.

Needs Python 3.9 or later, Linux or macOS, and network access at the first run, for a virtual
environment with what PEERS names. Examples:

    cargo build --release
    python3 tests/compare_onnxruntime/compare.py --threads 1 2 --peer openvino
    python3 tests/compare_onnxruntime/compare.py --onnx fcn.onnx --classes 21 --quantize "--task segment"
    venv/bin/python tests/corpus/tflite.py large FOLDER      (its top says what venv needs)
    python3 tests/compare_onnxruntime/compare.py --peer litert --tflite FOLDER/resnet50.tflite
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# What onnxruntime's quantiser needs, which makes the network for its own turns and OpenVINO's.
QUANTISER = ["onnxruntime>=1.20", "onnx", "numpy", "pillow"]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog="See the top of the script for more."
    )
    parser.add_argument("--resight", type=Path, default=REPOSITORY / "target/release/resight", metavar="FILE")
    parser.add_argument("--architecture", default="resnet50", help="what `resight synth` makes")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="an f32 network instead of a synthetic one")
    parser.add_argument("--tflite", type=Path, metavar="FILE", help="an int8 network, for LiteRT")
    parser.add_argument("--classes", type=int, default=1000, help="of the network")
    parser.add_argument("--quantize", default="", metavar="OPTIONS", help="more for resight quantize")
    parser.add_argument("--peer", choices=PEERS, default="onnxruntime", help="who takes the other turns")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each")
    parser.add_argument("--runs", type=int, default=20, help="inferences of a turn")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "target/compare_onnxruntime", metavar="DIR")
    parser.add_argument("--at-most", type=float, metavar="RATIO", help="fail when a ratio of medians is above")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.peer == "litert") != (options.tflite is not None):
        parser.error("--peer litert and --tflite FILE go together")
    return options


def enter_environment(folder, peer):
    """Starts this script again within the peer's virtual environment, made first where it is missing."""
    environment = folder / f"venv-{peer}"
    packages = PEERS[peer][0]
    python = environment / "bin/python"
    if Path(sys.prefix).resolve() == environment.resolve():
        return
    marker = environment / "complete"
    if not marker.exists():
        print(f"installing {', '.join(packages)} in {environment}", file=sys.stderr)
        venv.create(environment, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        marker.touch()
    os.execv(python, [str(python), *sys.argv])


def run(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr.strip()}")
    return result.stdout


def write_images(folder):
    """Random images to calibrate on: both tools only need ranges."""
    import numpy
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(7)
    for index in range(4):
        small = random.integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
        Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{index}.png")


def input_of(source):
    """Name of the network's image, its height and width."""
    import onnx

    value = onnx.load(source, load_external_data=False).graph.input[0]
    sides = [dim.dim_value for dim in value.type.tensor_type.shape.dim[2:]]
    return value.name, *sides


def quantise_by_onnxruntime(source, target, images, form):
    import numpy
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )
    from PIL import Image

    name, height, width = input_of(source)

    class Images(CalibrationDataReader):
        def __init__(self):
            self.paths = iter(sorted(images.glob("*.png")))

        def get_next(self):
            path = next(self.paths, None)
            if path is None:
                return None
            pixels = numpy.asarray(Image.open(path).resize((width, height)), dtype=numpy.float32) / 255
            mean, deviation = numpy.float32([0.485, 0.456, 0.406]), numpy.float32([0.229, 0.224, 0.225])
            return {name: ((pixels - mean) / deviation).transpose(2, 0, 1)[None]}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Images(),
        quant_format=QuantFormat[form],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=False,
    )


def random_pixels(size):
    import numpy

    return numpy.random.default_rng(1).standard_normal((1, 3, *size)).astype(numpy.float32)


def onnxruntime_session(path, size, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: random_pixels(size)}
    return onnxruntime.__version__, lambda: session.run(None, feed)


def openvino_request(path, size, threads):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, 3, *size])
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    pixels = random_pixels(size)
    return openvino.__version__.split("-")[0], lambda: request.infer([pixels])


def litert_interpreter(path, _size, threads):
    import ai_edge_litert
    import numpy
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]
    limits = numpy.iinfo(image["dtype"])
    pixels = numpy.random.default_rng(1).integers(limits.min, limits.max, image["shape"], image["dtype"], endpoint=True)
    interpreter.set_tensor(image["index"], pixels)
    return ai_edge_litert.__version__, interpreter.invoke


# Of each peer: the packages, the form of its network, and what makes its version and a call for one inference.
PEERS = {
    "onnxruntime": (QUANTISER, "QOperator", onnxruntime_session),
    "openvino": ([*QUANTISER, "openvino>=2025.0"], "QDQ", openvino_request),
    "litert": (["ai-edge-litert", "numpy"], None, litert_interpreter),
}


def networks(options):
    """The network's name, its image's height and width, the peer's file, and ours."""
    folder = options.folder
    labels = folder / "labels.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(options.classes)))
    if options.tflite is not None:
        model = folder / f"{options.tflite.stem}.tflite.resight.tar"
        run([options.resight, "convert", options.tflite, "--labels", labels, "-o", model])
        return options.tflite.stem, None, options.tflite, model
    images = folder / "images"
    write_images(images)
    source = options.onnx
    if source is None:
        source = folder / f"{options.architecture}.onnx"
        run([options.resight, "synth", options.architecture, "-o", source])
    form = PEERS[options.peer][1]
    quantised = folder / f"{source.stem}.{form}.onnx"
    model = folder / f"{source.stem}.resight.tar"
    quantise_by_onnxruntime(source, quantised, images, form)
    also = shlex.split(options.quantize)
    run([options.resight, "quantize", source, "--calibration", images, "--labels", labels, "-o", model, *also])
    return source.stem, input_of(source)[1:], quantised, model


def take_turn(infer, runs):
    """The median and the minimum of so many inferences, in ms."""
    times = []
    # As `resight bench`: half a second for the clock and the caches.
    warm = time.perf_counter() + 0.5
    while time.perf_counter() < warm:
        infer()
    for _ in range(runs):
        start = time.perf_counter()
        infer()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), min(times)


def main():
    options = arguments()
    enter_environment(options.folder, options.peer)
    if not options.resight.exists():
        sys.exit(f"{options.resight} does not exist; run `cargo build --release` or pass --resight")
    name, size, network, model = networks(options)

    report, failed = [], False
    for threads in options.threads:
        version, infer = PEERS[options.peer][2](network, size, threads)
        theirs, ours, isa = [], [], None
        for _ in range(options.rounds):
            theirs.append(take_turn(infer, options.runs))
            command = [options.resight, "bench", model, "--threads", threads, "--runs", options.runs, "--json"]
            result = json.loads(run(command))
            ours.append((result["median_ms"], result["minimum_ms"]))
            isa = result["isa"]
        median = [statistics.median(pair[0] for pair in pairs) for pairs in (ours, theirs)]
        minimum = [min(pair[1] for pair in pairs) for pairs in (ours, theirs)]
        entry = {
            "model": name,
            "threads": threads,
            "isa": isa,
            "peer": options.peer,
            "peer_version": version,
            "resight_median_ms": median[0],
            "peer_median_ms": median[1],
            "ratio_of_medians": median[0] / median[1],
            "resight_minimum_ms": minimum[0],
            "peer_minimum_ms": minimum[1],
            "ratio_of_minima": minimum[0] / minimum[1],
        }
        report.append(entry)
        failed |= options.at_most is not None and entry["ratio_of_medians"] > options.at_most
        if not options.json:
            print(
                f"{name}, {threads} thread{'s' if threads > 1 else ''}: "
                f"resight ({isa}) median {median[0]:.2f} ms, minimum {minimum[0]:.2f}; "
                f"{options.peer} {version} median {median[1]:.2f}, minimum {minimum[1]:.2f}; "
                f"ratio {entry['ratio_of_medians']:.3f} (minima {entry['ratio_of_minima']:.3f})",
                flush=True,
            )
    if options.json:
        print(json.dumps(report, indent=2))
    if failed:
        sys.exit(f"a ratio of medians is above {options.at_most}")


if __name__ == "__main__":
    main()
