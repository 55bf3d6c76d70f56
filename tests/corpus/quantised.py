#!/usr/bin/env python3
"""Networks that other tools have quantised: converted, and compared with onnxruntime on the same file.

    python3 -m venv venv && venv/bin/pip install numpy pillow onnx onnxruntime
    venv/bin/python tests/corpus/quantised.py make FOLDER F32.onnx [F32.onnx...] --pictures PHOTOS
    venv/bin/python tests/corpus/quantised.py run FOLDER --resight target/debug/resight > table.md
    venv/bin/python tests/corpus/quantised.py forms FOLDER NETWORK-operators-s8s8-channel@32 NETWORK-operators-u8s8-channel@32
    venv/bin/python tests/corpus/quantised.py export FOLDER F32.onnx [F32.onnx...] --resight target/debug/resight

By hand, not in the test command. `make` quantises each network with onnxruntime, in the forms QDQ and
QOperator, with uint8 and int8 activations, weights per tensor and per channel, and with NNCF where that is
installed. The networks take ImageNet's normalisation, in NCHW. Pictures are resized and
cut by Pillow to the network's size, so that nothing else differs. `run` converts each file and prints, over
the pictures that were not calibrated on, how often the best class is onnxruntime's, and the signal to
noise ratio of the logits against it; the same against onnxruntime without its optimisations, which computes the
file as ONNX defines it, in floats between the roundings; and of these two against each other: what two right
readings of a file differ by. `export` quantises each network by resight and compares its export with it.
"""

import argparse
import contextlib
import logging
import pathlib
import subprocess
import sys
import tempfile

import compared

FORMS = {
    "qdq-u8s8-channel": ("QDQ", "QUInt8", "QInt8", True, {}),
    "qdq-u8s8-tensor": ("QDQ", "QUInt8", "QInt8", False, {}),
    "qdq-s8s8-channel": ("QDQ", "QInt8", "QInt8", True, {}),
    "qdq-s8s8-symmetric": ("QDQ", "QInt8", "QInt8", True, {"ActivationSymmetric": True}),
    "qdq-u8u8-symmetric": ("QDQ", "QUInt8", "QUInt8", False, {"WeightSymmetric": True}),
    "qdq-u8u8-asymmetric": ("QDQ", "QUInt8", "QUInt8", False, {}),
    "operators-u8s8-channel": ("QOperator", "QUInt8", "QInt8", True, {}),
    "operators-u8u8-symmetric": ("QOperator", "QUInt8", "QUInt8", False, {"WeightSymmetric": True}),
    "operators-s8s8-channel": ("QOperator", "QInt8", "QInt8", True, {}),
}
CALIBRATED = 32


def prepared_pictures(photos, folder, size, count):
    """PNG files of the network's size, calibration first."""
    from PIL import Image

    target = folder / f"pictures{size}"
    if not target.exists():
        target.mkdir(parents=True)
        files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
        step = max(1, len(files) // (count + CALIBRATED))
        for index, file in enumerate(files[::step][: count + CALIBRATED]):
            image = Image.open(file).convert("RGB")
            width, height = image.size
            shorter = round(size * 8 / 7)
            scale = shorter / min(width, height)
            image = image.resize((max(size, round(width * scale)), max(size, round(height * scale))), Image.BILINEAR)
            left, top = (image.width - size) // 2, (image.height - size) // 2
            image = image.crop((left, top, left + size, top + size))
            # A colour profile would be applied by one reader and not by the other.
            Image.frombytes("RGB", image.size, image.tobytes()).save(target / f"{index:04}.png")
    return sorted(target.glob("*.png"))


def tensor(file):
    import numpy
    from PIL import Image

    mean, deviation = numpy.float32([0.485, 0.456, 0.406]), numpy.float32([0.229, 0.224, 0.225])
    grey = numpy.asarray(Image.open(file).convert("RGB"), dtype=numpy.float32) / 255
    return ((grey - mean) / deviation).transpose(2, 0, 1)[None].astype(numpy.float32)


def size_of(file):
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    known = {tensor.name for tensor in graph.initializer}
    image = next(value for value in graph.input if value.name not in known)
    return image.name, image.type.tensor_type.shape.dim[-1].dim_value


def make(folder, networks, photos, count, forms):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    for network in networks:
        name, size = size_of(network)
        images = prepared_pictures(photos, folder, size, count)[:CALIBRATED]

        class Reader(CalibrationDataReader):
            def __init__(self):
                self.images = iter(images)

            def get_next(self):
                file = next(self.images, None)
                return None if file is None else {name: tensor(file)}

        prepared = folder / "prepared.tmp"
        with contextlib.redirect_stdout(sys.stderr):
            quant_pre_process(str(network), str(prepared))
        for form in forms:
            if form == "nncf":
                make_nncf(network, folder / f"{network.stem}-nncf@{size}.onnx", name, images)
                continue
            kind, activations, weights, per_channel, extra = FORMS[form]
            output = folder / f"{network.stem}-{form}@{size}.onnx"
            if output.exists():
                continue
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    quantize_static(prepared, output, Reader(), quant_format=QuantFormat[kind], per_channel=per_channel,
                                    activation_type=QuantType[activations], weight_type=QuantType[weights],
                                    extra_options=extra)
                print("made", output.name, flush=True)
            except Exception as error:  # One form must not stop the others.
                print("not made", output.name, repr(error)[:200], flush=True)
        prepared.unlink()


def make_nncf(network, output, name, images):
    """By NNCF's post-training quantisation of ONNX files."""
    if output.exists():
        return
    try:
        import nncf
        import onnx

        logging.getLogger("nncf").setLevel(logging.ERROR)
        data = nncf.Dataset(images, lambda file: {name: tensor(file)})
        with contextlib.redirect_stdout(sys.stderr):
            onnx.save(nncf.quantize(onnx.load(network), data, subset_size=len(images)), output)
        print("made", output.name, flush=True)
    except Exception as error:
        print("not made", output.name, repr(error)[:200], flush=True)


def onnxruntime_logits(file, pictures, level):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    logits = [session.run(None, {name: tensor(picture)})[0].ravel() for picture in pictures]
    return numpy.stack(logits).astype(numpy.float64)


def run(folder, resight, count, names):
    import onnxruntime

    print("| file | same best class, % | SQNR, dB | as defined, % | dB | onnxruntime against itself, % | dB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for file, size in compared.files(folder, ".onnx", names):
        pictures = compared.pictures(folder, size, CALIBRATED, count)
        real = onnxruntime_logits(file, pictures, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
        plain = onnxruntime_logits(file, pictures, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        ours, refusal = compared.converted_logits(
            resight, file, real.shape[1], pictures, "--preprocess", "imagenet", "--resize", size
        )
        if refusal:
            print(f"| {file.stem} | {refusal} | | | | | |", flush=True)
            continue
        print(f"| {file.stem} | {alike(real, ours)} | {alike(plain, ours)} | {alike(real, plain)} |", flush=True)


def alike(real, found):
    """Percent of the same best class, where equal logits of two classes are no difference, and decibel."""
    return f"{compared.same_best(found, real):.1f} | {compared.decibel(real, found):.1f}"


def forms(folder, count, names):
    """Two files of one network, in int8 and in uint8, by onnxruntime without its optimisations: where each tensor
    of the second differs from the first."""
    import numpy
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions, size = [], int(names[0].rpartition("@")[2])
    for name in names:
        model = onnx.load(folder / f"{name}.onnx")
        made = [node.output[0] for node in model.graph.node if "Linear" in node.op_type or node.op_type == "QGemm"]
        wanted = [tensor for tensor in made if tensor not in {output.name for output in model.graph.output}]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(tensor) for tensor in wanted)
        sessions.append((made, onnxruntime.InferenceSession(model.SerializeToString(), options)))
    tensors, pairs = sessions[0][0], []
    for picture in compared.pictures(folder, size, CALIBRATED, count):
        image = {sessions[0][1].get_inputs()[0].name: tensor(picture)}
        pairs.append([session.run(tensors, image) for _, session in sessions])
    print("| tensor | values that differ, % | by at most |\n|---|---|---|")
    for index, name in enumerate(tensors):
        one, two = (numpy.stack([pair[side][index] for pair in pairs]) for side in (0, 1))
        if one.dtype == numpy.float32:
            print(f"\nlogits: {alike(one.reshape(len(one), -1), two.reshape(len(two), -1)).replace(' | ', ' % of the same best class, ')} dB")
            continue
        one, two = (side.astype(int) - 128 * (side.dtype == numpy.uint8) for side in (one, two))
        print(f"| {name} | {100 * (one != two).mean():.4f} | {abs(one - two).max()} |")


def export(folder, resight, count, networks):
    """Networks of floats, quantised by resight, exported, run by onnxruntime, and converted back."""
    import onnx
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    print("| network | method | onnxruntime, % | dB | as defined, % | dB | converted back, % | dB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for network in networks:
        _, size = size_of(network)
        pictures = sorted((folder / f"pictures{size}").glob("*.png"))
        for method in ("mse", "best"):
            with tempfile.TemporaryDirectory() as temporary:
                place = pathlib.Path(temporary)
                (place / "calibration").mkdir()
                for picture in pictures[:CALIBRATED]:
                    (place / "calibration" / picture.name).symlink_to(picture.absolute())
                labels, model, file, back = (place / name for name in ("labels.txt", "one.tar", "one.onnx", "two.tar"))
                session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
                classes = session.get_outputs()[0].shape[-1]
                compared.write_labels(labels, classes)
                of_pictures = ["--labels", labels, "--preprocess", "imagenet", "--resize", size]
                for command in (["quantize", network, "--calibration", place / "calibration", "--method", method,
                                 *of_pictures, "-o", model],
                                ["export", model, "--format", "qdq", "-o", file],
                                ["convert", file, *of_pictures, "-o", back]):
                    subprocess.run([str(part) for part in [resight, *command]], capture_output=True, check=True)
                onnx.checker.check_model(str(file), full_check=True)
                others = pictures[CALIBRATED:][:count]
                ours = compared.resight_logits(resight, model, others)
                found = [onnxruntime_logits(file, others, level)
                         for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL)]
                found.append(compared.resight_logits(resight, back, others))
            print(f"| {network.stem} | {method} | {' | '.join(alike(ours, other) for other in found)} |", flush=True)


def main():
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run", "forms", "export"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder of photographs, for make")
    parser.add_argument("--count", type=int, default=200, help="pictures to compare on")
    parser.add_argument("--forms", nargs="*", default=[*FORMS, "nncf"])
    parser.add_argument("--resight", default="target/debug/resight")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "make":
        networks = [pathlib.Path(name) for name in arguments.names]
        make(arguments.folder, networks, arguments.pictures, arguments.count, arguments.forms)
    elif arguments.what == "forms":
        forms(arguments.folder, arguments.count, arguments.names)
    elif arguments.what == "export":
        networks = [pathlib.Path(name) for name in arguments.names]
        export(arguments.folder, arguments.resight, arguments.count, networks)
    else:
        run(arguments.folder, arguments.resight, arguments.count, arguments.names)


if __name__ == "__main__":
    sys.exit(main())
