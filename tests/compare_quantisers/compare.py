#!/usr/bin/env python3
"""Compares what int8 loses against f32: resight, onnxruntime, NNCF, Neural Compressor.

Every quantiser gets the same ONNX network and the same calibration pictures, and is measured on the
same other pictures: top-1, how often it has f32's best class, and the signal to noise ratio of the
logits, plain and with each picture's mean removed. f32 is onnxruntime's for the others and tract's
for resight; both give the same logits to 1e-4.

    onnxruntime         static, QDQ, int8 weights per channel, uint8 activations, by minimum and maximum,
                        percentile (its default of 99.999) or entropy
    NNCF                post-training quantisation with fast bias correction, mixed preset
    Neural Compressor   version 2, static; left out with the reason where it cannot be installed

The network takes [N, 3, 224, 224] f32: shorter side to 256, bilinear, centre crop, ImageNet's mean and
deviation. A folder of pictures has labels.txt with lines `file class`. Needs network access at the
first run, for virtual environments. Example:

    cargo build --release -p resight
    python3 tests/compare_quantisers/compare.py resnet50.onnx --labels names.txt \\
        --calibration calibration/ --evaluation evaluation/
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ["onnxruntime>=1.20", "onnx", "numpy", "pillow", "nncf"]
NEURAL_COMPRESSOR = ["neural-compressor<3", "setuptools", "six", "onnxruntime", "onnx", "numpy", "pillow"]
QUANTISERS = ["minmax", "percentile", "entropy", "nncf", "neural_compressor", "mse", "best"]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog="See the top of the script for more."
    )
    parser.add_argument("network", type=Path, help="the f32 ONNX file")
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="for resight quantize")
    parser.add_argument("--calibration", type=Path, required=True, metavar="DIR")
    parser.add_argument("--evaluation", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=QUANTISERS, default=QUANTISERS, metavar="NAME")
    parser.add_argument("--resight", type=Path, default=REPOSITORY / "target/release/resight", metavar="FILE")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "target/compare_quantisers", metavar="DIR")
    parser.add_argument("--json", action="store_true")
    # What runs in the environment of another package: a quantiser, and where its network goes.
    parser.add_argument("--quantise-by", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def environment(folder, name, packages):
    """The Python of a virtual environment, made first where it is missing."""
    made = folder / name
    marker = made / "complete"
    if not marker.exists():
        print(f"installing {', '.join(packages)} in {made}", file=sys.stderr)
        venv.create(made, with_pip=True, clear=True)
        subprocess.run([made / "bin/python", "-m", "pip", "install", "--quiet", *packages], check=True)
        marker.touch()
    return made / "bin/python"


def run(command):
    """Runs a program; gives what it prints and the processor seconds it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        raise RuntimeError((result.stderr.strip().splitlines() or ["no message"])[-1])
    return result.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def picture(path):
    """A picture as the network takes it, [1, 3, 224, 224]."""
    import numpy
    from PIL import Image

    image = Image.open(path).convert("RGB")
    factor = 256 / min(image.size)
    image = image.resize([round(side * factor) for side in image.size], Image.Resampling.BILINEAR)
    left, top = [(side - 224) // 2 for side in image.size]
    values = numpy.asarray(image.crop((left, top, left + 224, top + 224)), dtype=numpy.float32) / 255
    values = (values - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return values.transpose(2, 0, 1)[None].astype(numpy.float32)


def pictures(folder):
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))


def session(network):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])


def quantise_by_onnxruntime(method, source, target, calibration):
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = session(source).get_inputs()[0].name

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(pictures(calibration))

        def get_next(self):
            path = next(self.rest, None)
            return None if path is None else {name: picture(path)}

        def __len__(self):
            return len(pictures(calibration))

        # All tensors of what it is given at once are kept: 90 MB for each picture of ResNet-50.
        def set_range(self, start_index, end_index):
            self.rest = iter(pictures(calibration)[start_index:end_index])

    count = len(pictures(calibration))
    at_once = max(step for step in range(1, 11) if count % step == 0)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method={
                "minmax": CalibrationMethod.MinMax,
                "percentile": CalibrationMethod.Percentile,
                "entropy": CalibrationMethod.Entropy,
            }[method],
            extra_options={"CalibStridedMinMax": at_once},
        )


def quantise_by_nncf(source, target, calibration):
    import nncf
    import onnx

    model = onnx.load(source)
    name = model.graph.input[0].name
    files = pictures(calibration)
    data = nncf.Dataset(files, lambda path: {name: picture(path)})
    preset = nncf.QuantizationPreset.MIXED
    onnx.save(nncf.quantize(model, data, preset=preset, subset_size=len(files)), target)


def quantise_by_neural_compressor(source, target, calibration):
    from neural_compressor import PostTrainingQuantConfig, quantization

    class Pictures:
        batch_size = 1

        def __iter__(self):
            return ((picture(path), 0) for path in pictures(calibration))

    config = PostTrainingQuantConfig(approach="static", calibration_sampling_size=[len(pictures(calibration))])
    quantised = quantization.fit(str(source), config, calib_dataloader=Pictures())
    if quantised is None:
        raise RuntimeError("Neural Compressor found no network that is good enough for it")
    quantised.save(str(target))


def quantise(name, source, target, calibration):
    if name == "nncf":
        quantise_by_nncf(source, target, calibration)
    elif name == "neural_compressor":
        quantise_by_neural_compressor(source, target, calibration)
    else:
        quantise_by_onnxruntime(name, source, target, calibration)


def logits(network, folder):
    import numpy

    runner = session(network)
    name = runner.get_inputs()[0].name
    return numpy.concatenate([runner.run(None, {name: picture(path)})[0] for path in pictures(folder)])


def compared(float_logits, int8_logits, classes):
    """The figures of one quantiser."""
    import numpy

    def decibel(of):
        a, b = of(float_logits.astype(float)), of(int8_logits.astype(float))
        return float(10 * numpy.log10((a**2).sum() / ((a - b) ** 2).sum()))

    before, after = float_logits.argmax(1), int8_logits.argmax(1)
    return {
        "top1": 100 * float((after == classes).mean()),
        "agreement": 100 * float((before == after).mean()),
        "sqnr_db": decibel(lambda values: values),
        "centred_sqnr_db": decibel(lambda values: values - values.mean(1, keepdims=True)),
    }


def by_resight(method, options):
    target = options.folder / f"{options.network.stem}.{method}.resight.tar"
    command = [options.resight, "quantize", options.network, "--calibration", options.calibration]
    command += ["--labels", options.labels, "--method", method, "-o", target]
    _, seconds = run(command)
    printed, _ = run(
        [options.resight, "evaluate", options.network, target, "--images", options.evaluation, "--json"]
    )
    found = json.loads(printed)[1]
    figures = {key: found[key] for key in ["top1", "agreement", "sqnr_db", "centred_sqnr_db"]}
    return figures | {"seconds": seconds, "megabytes": target.stat().st_size / 1e6}


def by_other(name, options, reference, classes, pythons):
    target = options.folder / f"{options.network.stem}.{name}.onnx"
    same = [options.network, "--labels", options.labels, "--calibration", options.calibration]
    same += ["--evaluation", options.evaluation, "--folder", options.folder]
    _, seconds = run([pythons[name](), __file__, *same, "--quantise-by", name, target])
    figures = compared(reference, logits(target, options.evaluation), classes)
    return figures | {"seconds": seconds, "megabytes": target.stat().st_size / 1e6}


def main():
    options = arguments()
    if options.quantise_by:
        name, target = options.quantise_by
        quantise(name, options.network, target, options.calibration)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    python = environment(options.folder, "venv", PACKAGES)
    if Path(sys.prefix).resolve() != python.parents[1].resolve():
        os.execv(python, [str(python), *sys.argv])
    import numpy

    lines = (options.evaluation / "labels.txt").read_text().split("\n")
    by_file = dict(line.split()[:2] for line in lines if line.strip())
    classes = numpy.array([int(by_file[path.name]) for path in pictures(options.evaluation)])
    reference = logits(options.network, options.evaluation)
    other = lambda: environment(options.folder, "venv-neural-compressor", NEURAL_COMPRESSOR)
    pythons = {name: lambda: python for name in QUANTISERS} | {"neural_compressor": other}
    results = {}
    for name in options.only:
        print(f"{name} ...", file=sys.stderr)
        try:
            if name in ("mse", "best"):
                results[f"resight {name}"] = by_resight(name, options)
            else:
                results[name] = by_other(name, options, reference, classes, pythons)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            results[name] = {"error": str(error)}
    top1 = 100 * float((reference.argmax(1) == classes).mean())
    if options.json:
        print(json.dumps({"pictures": len(classes), "f32_top1": top1, "quantisers": results}, indent=2))
        return
    print(f"{options.network.name} on {len(classes)} pictures, f32 top-1 {top1:.2f} %\n")
    print("| quantiser | top-1 % | same class % | SQNR dB | centred dB | CPU s | MB |\n|---|---|---|---|---|---|---|")
    for name, found in results.items():
        if "error" in found:
            print(f"| {name} | left out: {found['error']} | | | | | |")
            continue
        keys = ["top1", "agreement", "sqnr_db", "centred_sqnr_db"]
        figures = " | ".join(f"{found[key]:.2f}" for key in keys)
        print(f"| {name} | {figures} | {found['seconds']:.0f} | {found['megabytes']:.1f} |")


if __name__ == "__main__":
    main()
