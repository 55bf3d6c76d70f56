#!/usr/bin/env python3
"""Networks that people use, made with PyTorch and timm: which convert, and how close they stay.

    python3 -m venv venv && venv/bin/pip install torch torchvision timm onnx onnxruntime
    venv/bin/python tests/corpus/corpus.py make FOLDER [NAME...]      ONNX files and pictures
    venv/bin/python tests/corpus/corpus.py run FOLDER --resight target/debug/resight > table.md
    venv/bin/python tests/corpus/corpus.py imports FOLDER family      whether each is taken, at its own size

By hand, not in the test command. Weights are seeded and realistic: initialised as for training, the
statistics of batch normalisation from the pictures. `run` compares int8 with f32 by onnxruntime on
the first 8 pictures: ours as `resight quantize` says, onnxruntime's own static quantisation
(QDQ, per channel, percentile) beside it. A NAME is `timm/NAME` or `tv/NAME`, with `@SIZE` behind it
for another size than 96; `family` stands for timm's ResNet family: its modules resnet, resnetv2, resnest,
res2net, sknet and senet. Networks of more than 70 million weights are left out; `imports` takes them as far as
resight does (268 million), with weights that are all the same in a layer, since it only asks whether a network is taken.
"""

import argparse
import contextlib
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

DEFAULT = """
tv/resnet18 tv/mobilenet_v2 tv/mobilenet_v3_small tv/mobilenet_v3_large tv/densenet121 tv/googlenet tv/efficientnet_b0
tv/regnet_y_400mf tv/regnet_x_400mf tv/squeezenet1_1 tv/vgg11 tv/vgg11_bn tv/alexnet tv/shufflenet_v2_x1_0 tv/mnasnet0_5
tv/inception_v3@299 tv/resnext50_32x4d
timm/resnet10t timm/resnet50d timm/seresnet18 timm/seresnet50 timm/seresnext26t_32x4d timm/ecaresnet26t timm/ecaresnet50d
timm/skresnet18 timm/skresnext50_32x4d timm/res2net50_26w_4s timm/res2next50 timm/resnest14d timm/resnest26d
timm/resnetblur18 timm/resnetaa50d timm/resnetrs50 timm/dla34 timm/hrnet_w18_small timm/cspresnet50 timm/cspdarknet53
timm/darknet53 timm/mobilenetv1_100 timm/efficientnet_lite0 timm/regnetz_b16 timm/ghostnet_100 timm/tresnet_m
timm/resnet50_gn timm/gcresnet50t timm/resnet33ts timm/repvgg_a0 timm/vovnet39a timm/selecsls42b timm/legacy_senet154
timm/hardcorenas_a timm/tinynet_e timm/lcnet_050 timm/resnetv2_50 timm/resnetv2_50x1_bit timm/nf_resnet26 timm/rexnet_100
""".split()


def pictures(folder, size, count=32):
    """Smooth noise with edges, of the network's own size: nothing is resized."""
    import numpy
    from PIL import Image

    target = folder / f"pictures{size}"
    if not target.exists():
        target.mkdir(parents=True)
        random = numpy.random.default_rng(5)
        for index in range(count):
            picture = numpy.zeros((size, size, 3))
            for cells, weight in [(2, 70), (5, 50), (16, 30), (size, 12)]:
                noise = random.uniform(-1, 1, (cells, cells, 3))
                noise = numpy.clip(128 + 127 * noise, 0, 255).astype(numpy.uint8)
                smooth = Image.fromarray(noise).resize((size, size), Image.BICUBIC)
                picture += weight * (numpy.asarray(smooth) / 127.5 - 1)
            left, top = random.integers(0, size // 2, 2)
            picture[top : top + size // 3, left : left + size // 3] += random.uniform(-80, 80, 3)
            picture = numpy.clip(picture + random.uniform(70, 180), 0, 255).astype(numpy.uint8)
            Image.fromarray(picture).save(target / f"{index:03}.png")
    return target


def tensors(folder, size):
    import numpy
    from PIL import Image

    mean, deviation = numpy.float32([0.485, 0.456, 0.406]), numpy.float32([0.229, 0.224, 0.225])
    files = sorted(pictures(folder, size).glob("*.png"))
    read = [numpy.asarray(Image.open(file), dtype=numpy.float32) / 255 for file in files]
    return [((r - mean) / deviation).transpose(2, 0, 1)[None].astype(numpy.float32) for r in read]


def family():
    import timm

    modules = ("resnet", "resnetv2", "resnest", "res2net", "sknet", "senet")
    return [f"timm/{name}" for module in modules for name in timm.list_models(module=module)]


def split(name):
    name, _, size = name.partition("@")
    return name, int(size or 96)


def make(folder, names):
    import torch

    for full in names:
        name, size = split(full)
        path = folder / f"{name.replace('/', '-')}@{size}.onnx"
        if path.exists():
            continue
        torch.manual_seed(sum(map(ord, name)))
        try:
            model = build(name, folder, size)
            with torch.no_grad():
                image = torch.zeros(1, 3, size, size)
                batch = {"input": {0: "batch"}}
                torch.onnx.export(model, (image,), path, input_names=["input"], dynamic_axes=batch, dynamo=False,
                                  opset_version=17)
            print("made", path.name, flush=True)
        except Exception as error:  # One network must not stop the others.
            print("not made", full, repr(error)[:200], flush=True)


def build(name, folder, size):
    import torch

    kind, _, short = name.partition("/")
    if kind == "tv":
        import torchvision

        extra = {"aux_logits": False, "init_weights": True} if short in ("googlenet", "inception_v3") else {}
        model = torchvision.models.get_model(short, weights=None, **extra)
    else:
        import timm

        model = timm.create_model(short, pretrained=False)
    if sum(p.numel() for p in model.parameters()) > 70e6:
        raise ValueError("more than 70 million weights")
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = None
            module.reset_running_stats()
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, 0.05)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) or "drop" in type(module).__name__.lower():
            module.eval()
    images = torch.cat([torch.from_numpy(image) for image in tensors(folder, size)])
    with torch.no_grad():
        for batch in images.split(16):
            model(batch)
    return model.eval()


def run(folder, resight, names, method, count):
    files = sorted(folder.glob("*.onnx"))
    if names:
        wanted = [folder / f"{split(name)[0].replace('/', '-')}@{split(name)[1]}.onnx" for name in names]
        files = [file for file in wanted if file in files]
    print("| network | outcome | resight, dB | onnxruntime int8, dB | difference |\n|---|---|---|---|---|", flush=True)
    converted, differences = 0, []
    for file in files:
        size = int(file.stem.rpartition("@")[2])
        ours, outcome = quantised(resight, file, pictures(folder, size), folder, method, count)
        if ours is None:
            print(f"| {file.stem} | {outcome} | | | |", flush=True)
            continue
        converted += 1
        try:
            theirs = onnxruntime_int8(file, tensors(folder, size)[:count])
            differences.append(ours - theirs)
            print(f"| {file.stem} | {outcome} | {ours:.1f} | {theirs:.1f} | {ours - theirs:+.1f} |", flush=True)
        except Exception as error:
            print(f"| {file.stem} | {outcome} | {ours:.1f} | {repr(error)[:80]} | |", flush=True)
    if differences:
        print(f"\n{converted} of {len(files)} convert; {sum(differences) / len(differences):+.1f} dB on average, "
              f"{min(differences):+.1f} dB at worst.")


def quantised(resight, file, images, folder, method, count):
    labels = folder / "labels.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(classes(file))))
    with tempfile.TemporaryDirectory() as temporary:
        output = pathlib.Path(temporary) / "model.resight.tar"
        command = [resight, "quantize", file, "--calibration", images, "--labels", labels, "-o", output, "--json",
                   "--method", method, "--images", count, "--preprocess", "imagenet"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "rror" in line or "node" in line]
            cause = (lines or ["?"])[-1]
            return None, cause.replace(str(file), "").replace("|", "/")[:220]
        return json.loads(done.stdout)["report"]["logits_sqnr_db"], "converts"


def imports(folder, resight, names):
    """Whether the importer takes each network at its own input size; nothing is quantised."""
    import torch

    # Random numbers take longer than all the rest; the exporter makes one of tensors that are the same.
    numbers = itertools.count(1)
    for name in dir(torch.nn.init):
        if name.endswith("_") and not name.startswith("_") and "no_grad" not in name:
            setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor.detach().fill_(next(numbers) * 1e-5))
    taken, tried = 0, 0
    labels, output, path = folder / "one.txt", folder / "never.resight.tar", folder / "imported.onnx"
    labels.write_text("a single label, which fits no network\n")
    for full in names:
        try:
            name, _ = split(full)
            kind, _, short = name.partition("/")
            if kind == "tv":
                import torchvision

                model, size = torchvision.models.get_model(short, weights=None), 224
            else:
                import timm

                with torch.device("meta"):
                    count = sum(p.numel() for p in timm.create_model(short, pretrained=False).parameters())
                if count > 1 << 28:
                    print(f"| {full} | {count / 1e6:.0f} million weights, more than resight takes |", flush=True)
                    continue
                model = timm.create_model(short, pretrained=False)
                size = model.pretrained_cfg.get("input_size", (3, 224, 224))[1]
            with torch.no_grad():
                torch.onnx.export(model.eval(), (torch.zeros(1, 3, size, size),), path, input_names=["input"],
                                  dynamic_axes={"input": {0: "batch"}}, dynamo=False, opset_version=17)
        except Exception as error:
            print(f"| {full} | not exported: {repr(error)[:120]} |", flush=True)
            continue
        command = [resight, "quantize", path, "--calibration", pictures(folder, 96), "--labels", labels, "-o", output]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        # What comes after the import is that one label is too few.
        fits = "label" in done.stderr and "node `" not in done.stderr
        tried, taken = tried + 1, taken + fits
        cause = "" if fits else done.stderr.strip().splitlines()[-1].replace(str(path), "").replace("|", "/")[:220]
        print(f"| {full} at {size} | {'taken' if fits else cause} |", flush=True)
        path.unlink()
    print(f"\n{taken} of {tried} taken.")


def classes(file):
    import onnx

    model = onnx.load(file, load_external_data=False)
    return model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value or 1000


def onnxruntime_int8(file, images):
    import logging

    import numpy
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.disable(logging.WARNING)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = iter(images)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"input": image}

    def logits(path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return numpy.stack([session.run(None, {"input": image})[0] for image in images[:8]]).astype(numpy.float64)

    with tempfile.TemporaryDirectory() as temporary:
        prepared, int8 = pathlib.Path(temporary) / "prepared.onnx", pathlib.Path(temporary) / "int8.onnx"
        # It prints its progress.
        with contextlib.redirect_stdout(sys.stderr):
            quant_pre_process(str(file), str(prepared))
            quantize_static(prepared, int8, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                            calibrate_method=CalibrationMethod.Percentile)
        real, found = logits(file), logits(int8)
    return 10 * numpy.log10((real**2).sum() / ((real - found) ** 2).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run", "imports"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--resight", default="target/debug/resight")
    parser.add_argument("--method", default="mse")
    parser.add_argument("--pictures", type=int, default=32, help="to calibrate on, for both")
    arguments = parser.parse_args()
    names = [n for name in arguments.names for n in (family() if name == "family" else [name])]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "make":
        make(arguments.folder, names or DEFAULT)
    elif arguments.what == "imports":
        imports(arguments.folder, arguments.resight, names or DEFAULT)
    else:
        run(arguments.folder, arguments.resight, names, arguments.method, arguments.pictures)


if __name__ == "__main__":
    sys.exit(main())
