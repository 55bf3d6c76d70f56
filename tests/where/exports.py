#!/usr/bin/env python3
"""Networks that say where things are, exported up to their raw outputs: how close int8 stays to f32.

    python3 -m venv venv && venv/bin/pip install torch torchvision segmentation-models-pytorch onnx onnxruntime onnxscript pillow
    venv/bin/python tests/where/exports.py make FOLDER [NAME...]      ONNX files and pictures
    venv/bin/python tests/where/exports.py run FOLDER --resight target/release/resight > table.md

By hand, not in the test command. Weights are seeded and realistic: initialised as for training, the
statistics of batch normalisation from the pictures. `run` compares the outputs of int8 with f32 on the
first 8 pictures: ours as `resight quantize` says, onnxruntime's own static quantisation (QDQ, per
channel, minimum and maximum, and percentile) beside it. Where the decoder makes probabilities, these are
compared, and of vectors their directions (ours over all pictures). Levels of a detector are compared one by one.
A NAME with `@640` behind it is made of that side.
With several methods (`--method best mse`) each has a column, and the first is what is compared.
"""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "corpus"))
import corpus  # noqa: E402  (the pictures are the same)

# Side of the image, task, decoder.
NETWORKS = {
    "fcn_resnet50": (128, "segment", None),
    "fcn_resnet101": (128, "segment", None),
    "deeplabv3_resnet50": (128, "segment", None),
    "deeplabv3_resnet101": (128, "segment", None),
    "fcn_resnet18": (128, "segment", None),
    "unet_resnet18": (128, "segment", None),
    "fpn_resnet18": (128, "segment", None),
    "linknet_resnet18": (128, "segment", None),
    "unet_resnet34_dynamo": (128, "segment", None),
    "unet_resnet50_sigmoid": (128, "segment", None),
    "unet_resnet50_softmax_dynamo": (128, "segment", None),
    "unetplusplus_resnet18": (128, "segment", None),
    "manet_resnet18": (128, "segment", None),
    "deeplabv3plus_resnet18": (128, "segment", None),
    "classic_transposed_odd": (75, "segment", None),
    "classic_bilinear_odd_dynamo": (75, "segment", None),
    "retinanet_resnet50_fpn": (256, "detect", "retinanet"),
    "ssd300_resnet50": (300, "detect", "ssd300"),
    "fcos_resnet50_fpn_bn": (256, "detect", "fcos"),
    "centernet_resnet18": (128, "detect", "centernet"),
    "detectnet_resnet18": (128, "detect", "detectnet"),
    "pose_resnet18": (128, "keypoints", None),
    "pose_resnet50": (128, "keypoints", None),
    "affinity_resnet18": (128, "keypoints", "trt-pose"),
    "embed_resnet18_pooled": (112, "embed", None),
    "embed_resnet18_normalised_dynamo": (112, "embed", None),
    "embed_resnet34_bottleneck_dynamo": (112, "embed", None),
    "embed_resnet50_linear": (112, "embed", None),
    "embed_resnet50_bottleneck_normalised": (112, "embed", None),
    "embed_resnet50_generalised": (112, "embed", None),
}


def raw_detector(detector, names):
    """The outputs of torchvision's heads, before boxes are chosen."""
    import torch

    class Raw(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.detector = detector

        def forward(self, image):
            features = list(self.detector.backbone(image).values())
            heads = self.detector.head(features)
            return tuple(heads[name] for name in names)

    return Raw()


def ssd300_resnet50():
    """torchvision's SSD on a ResNet-50, whose maps are those of a 300 x 300 SSD."""
    import torch
    import torchvision
    from torchvision.models.detection import ssd

    network = torchvision.models.resnet50(weights=None)
    # As NVIDIA's: the third stage keeps the size of the second.
    network.layer3[0].conv2.stride = network.layer3[0].downsample[0].stride = (1, 1)
    body = torch.nn.Sequential(*list(network.children())[:7])

    class Backbone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body
            channels = [1024, 512, 512, 256, 256, 256]
            layers = [(1024, 256, 512, 1, 2), (512, 256, 512, 1, 2), (512, 128, 256, 1, 2), (256, 128, 256, 0, 1), (256, 128, 256, 0, 1)]
            self.extra = torch.nn.ModuleList(
                torch.nn.Sequential(
                    torch.nn.Conv2d(a, b, 1, bias=False), torch.nn.BatchNorm2d(b), torch.nn.ReLU(),
                    torch.nn.Conv2d(b, c, 3, stride, padding, bias=False), torch.nn.BatchNorm2d(c), torch.nn.ReLU(),
                )
                for a, b, c, padding, stride in layers
            )
            self.out_channels = channels

        def forward(self, image):
            maps = [self.body(image)]
            for layer in self.extra:
                maps.append(layer(maps[-1]))
            return {str(index): one for index, one in enumerate(maps)}

    backbone = Backbone()
    head = ssd.SSDHead(backbone.out_channels, [4, 6, 6, 6, 4, 4], 21)

    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = backbone, head

    return raw_detector(Detector(), ["bbox_regression", "cls_logits"])


def classic(upsampling, classes=3, width=16):
    """A U-Net of plain convolutions, as many write it themselves: what was enlarged is padded to the size of what it is
    put beside, so that any size of picture will do."""
    import torch
    from torch import nn

    def twice(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
                             nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

    def larger(a, b):
        if upsampling == "transposed":
            return nn.ConvTranspose2d(a, b, 2, stride=2)
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(a, b, 1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [width, 2 * width, 4 * width, 8 * width]
            self.down = nn.ModuleList(twice(a, b) for a, b in zip([3, *widths], widths))
            self.up = nn.ModuleList(larger(b, a) for a, b in zip(widths, widths[1:]))
            self.joined = nn.ModuleList(twice(2 * a, a) for a in widths[:-1])
            self.pool, self.out = nn.MaxPool2d(2), nn.Conv2d(width, classes, 1)

        def forward(self, x):
            beside = []
            for index, down in enumerate(self.down):
                x = down(self.pool(x) if index else x)
                beside.append(x)
            for up, joined, other in list(zip(self.up, self.joined, beside))[::-1]:
                x = up(x)
                rows, columns = other.shape[2] - x.shape[2], other.shape[3] - x.shape[3]
                x = nn.functional.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
                x = joined(torch.cat([other, x], 1))
            return self.out(x)

    return Net()


def embedding(backbone, ending):
    """A ResNet that ends in a vector: its average, a linear layer, one with batch normalisation behind it, or generalised
    means (GeM) of its maps; divided by its norm where the ending says so."""
    import torch
    import torchvision
    from torch import nn

    network = torchvision.models.get_model(backbone, weights=None)
    channels = network.fc.in_features
    if "linear" in ending:
        network.fc = nn.Linear(channels, 128)
    elif "bottleneck" in ending:
        network.fc = nn.Sequential(nn.Linear(channels, 128, bias=False), nn.BatchNorm1d(128))
    else:
        network.fc = nn.Identity()
    if "generalised" in ending:
        class Generalised(nn.Module):
            def forward(self, x):
                return nn.functional.avg_pool2d(x.clamp(min=1e-6).pow(3.0), x.shape[-2:]).pow(1 / 3)

        network.avgpool = Generalised()

    class Vector(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, image):
            vector = self.network(image)
            return nn.functional.normalize(vector) if "normalised" in ending else vector

    return Vector()


def enlarged(backbone, heads):
    """Three transposed convolutions behind a ResNet and heads on their map: CenterNet ("Objects as Points") and the
    pose networks of Simple Baselines. A head is a number of channels and what comes behind it."""
    import torch
    import torchvision
    from torch import nn

    body = nn.Sequential(*list(torchvision.models.get_model(backbone, weights=None).children())[:-2])
    channels = body(torch.zeros(1, 3, 64, 64)).shape[1]
    for _ in range(3):
        body.extend([nn.ConvTranspose2d(channels, 256, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(256), nn.ReLU()])
        channels = 256

    def head(count, behind, hidden):
        if not hidden:
            return nn.Sequential(nn.Conv2d(256, count, 1), *behind)
        return nn.Sequential(nn.Conv2d(256, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, count, 1), *behind)

    return heads_on(body, [head(count, behind, len(heads) > 1) for count, behind in heads])


def heads_on(body, heads):
    """Several convolutions that read the same map."""
    from torch import nn

    class Together(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.heads = body, nn.ModuleList(heads)

        def forward(self, image):
            features = self.body(image)
            found = tuple(head(features) for head in self.heads)
            return found if len(found) > 1 else found[0]

    return Together()


def of_the_board(kind):
    """As jetson-inference runs them: FCN on a ResNet-18, whose map is as small as the last stage's, and DetectNet_v2 with
    its grid of coverage and boxes by three classes at a sixteenth of the image."""
    import torchvision
    from torch import nn
    from torchvision.models.segmentation.fcn import FCNHead

    layers = list(torchvision.models.resnet18(weights=None).children())[:-2]
    if kind == "fcn":
        return nn.Sequential(*layers, FCNHead(512, 21))
    # DetectNet_v2's last stage keeps its size.
    layers[-1][0].conv1.stride = layers[-1][0].downsample[0].stride = (1, 1)
    return heads_on(nn.Sequential(*layers), [nn.Sequential(nn.Conv2d(512, 3, 1), nn.Sigmoid()), nn.Conv2d(512, 12, 1)])


def affinity(backbone):
    """Heat maps and part affinity fields as trt_pose's networks with attention: three transposed convolutions for each
    of the two, a sigmoid of a map times the map for one, a tangent for the other."""
    import torch
    import torchvision
    from torch import nn

    body = nn.Sequential(*list(torchvision.models.get_model(backbone, weights=None).children())[:-2])
    width = 64

    def larger():
        channels, layers = body(torch.zeros(1, 3, 64, 64)).shape[1], []
        for _ in range(3):
            layers += [nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers)

    class Attentive(nn.Module):
        def __init__(self, count, gate):
            super().__init__()
            self.larger, self.gate = larger(), gate
            self.attention, self.end = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, count, 1)

        def forward(self, features):
            features = self.larger(features)
            return self.end(features * self.gate(self.attention(features)))

    return heads_on(body, [Attentive(18, torch.sigmoid), Attentive(42, torch.tanh)])


KINDS = {"unet": "Unet", "unetplusplus": "UnetPlusPlus", "manet": "MAnet", "fpn": "FPN", "linknet": "Linknet",
         "deeplabv3plus": "DeepLabV3Plus"}


def build(name):
    import torch
    import torchvision

    models = torchvision.models
    kind, what, *ending = name.split("_")
    if kind == "classic":
        return classic(what)
    if kind == "embed":
        return embedding(what, ending)
    if name in ("fcn_resnet18", "detectnet_resnet18"):
        return of_the_board(kind)
    if kind == "centernet":
        return enlarged(what, [(3, [torch.nn.Sigmoid()]), (2, []), (2, [])])
    if kind == "affinity":
        return affinity(what)
    if kind == "pose":
        return enlarged(what, [(17, [])])
    if kind in KINDS:
        import segmentation_models_pytorch

        classes, activation = (1, "sigmoid") if "sigmoid" in ending else (5, "softmax2d" if "softmax" in ending else None)
        make = getattr(segmentation_models_pytorch, KINDS[kind])
        # FPN's has normalisation by groups.
        return _with_batch_normalisation(make(what, encoder_weights=None, classes=classes, activation=activation))
    if name.startswith(("fcn", "deeplab")):
        network = models.get_model(name, weights=None, weights_backbone=None, aux_loss=False, num_classes=21)

        class Maps(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.network = network

            def forward(self, image):
                return self.network(image)["out"]

        return Maps()
    boxes = ["bbox_regression", "cls_logits"]
    if name == "ssd300_resnet50":
        return ssd300_resnet50()
    if name == "retinanet_resnet50_fpn":
        network = models.get_model("retinanet_resnet50_fpn", weights=None, weights_backbone=None)
        network.backbone = _with_batch_normalisation(network.backbone)
        return raw_detector(network, boxes)
    network = models.get_model("fcos_resnet50_fpn", weights=None, weights_backbone=None)
    network.backbone = _with_batch_normalisation(network.backbone)
    network.head = _with_batch_normalisation(network.head)
    return raw_detector(network, [*boxes, "bbox_ctrness"])


def _with_batch_normalisation(module):
    """In place of normalisation by groups, which int8 cannot, and of frozen statistics, which are not seeded."""
    import torch
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, torch.nn.GroupNorm):
            setattr(module, name, torch.nn.BatchNorm2d(child.num_channels))
        elif isinstance(child, FrozenBatchNorm2d):
            setattr(module, name, torch.nn.BatchNorm2d(child.weight.numel()))
        else:
            _with_batch_normalisation(child)
    return module


OUTPUTS = {
    "segment": ["out"],
    "keypoints": ["heatmaps"],
    "trt-pose": ["cmap", "paf"],
    "centernet": ["heatmap", "size", "offset"],
    "detectnet": ["output_cov/Sigmoid:0", "output_bbox/BiasAdd:0"],
    "embed": ["out"],
    "retinanet": ["bbox_regression", "cls_logits"],
    "ssd300": ["bbox_regression", "cls_logits"],
    "fcos": ["bbox_regression", "cls_logits", "bbox_ctrness"],
}


def sized(full, smaller):
    """Name, side, task and decoder; maps and vectors are made of pictures of any side."""
    name, _, own = full.partition("@")
    side, task, decoder = NETWORKS[name]
    if own:
        side = int(own)
    elif task != "detect":
        side = min(side, smaller or side)
    return name, side, task, decoder


def make(folder, names, smaller):
    import torch

    for full in names:
        name, side, task, decoder = sized(full, smaller)
        path = folder / f"{name}@{side}.onnx"
        if path.exists():
            continue
        torch.manual_seed(sum(map(ord, name)))
        try:
            model = build(name)
            for module in model.modules():
                if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                    torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                    torch.nn.init.normal_(module.bias, 0, 0.3)
                    module.momentum = None
                    module.reset_running_stats()
            model.train()
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.eval()
            images = torch.cat([torch.from_numpy(image) for image in corpus.tensors(folder, side)])
            with torch.no_grad():
                # torchvision's heads know no batches of one in training.
                for batch in images.split(8):
                    model(batch)
                names_of = OUTPUTS[decoder or task]
                if name.endswith("_dynamo"):
                    torch.onnx.export(model.eval(), (images[:1],), path, input_names=["input"], output_names=names_of,
                                      dynamo=True, external_data=False)
                else:
                    torch.onnx.export(model.eval(), (images[:1],), path, input_names=["input"], output_names=names_of,
                                      dynamo=False, opset_version=17)
            print("made", path.name, flush=True)
        except Exception as error:  # One network must not stop the others.
            print("not made", name, repr(error)[:300], flush=True)


def ours(resight, file, images, task, decoder, method, count):
    """The report of each output, and what it is."""
    import onnx

    with tempfile.TemporaryDirectory() as temporary:
        labels, output = pathlib.Path(temporary) / "labels.txt", pathlib.Path(temporary) / "model.resight.tar"
        command = [resight, "quantize", file, "--calibration", images, "-o", output, "--json",
                   "--task", task, "--method", method, "--images", count, "--preprocess", "imagenet", "--fit", "squash"]
        if task != "embed":
            values = onnx.load(file, load_external_data=False).graph.output
            dims = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
            if "cls_logits" in dims:
                classes = dims["cls_logits"][2] - (decoder == "ssd300")
            else:
                classes = dims[OUTPUTS[decoder or task][0]][1]
            labels.write_text("".join(f"class {index}\n" for index in range(classes)))
            command += ["--labels", labels]
        command += ["--decoder", decoder] if decoder else []
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["?"])[-1].replace(str(file), "").replace("|", "/")[:300]
        report = json.loads(done.stdout)["report"]
        if task == "embed":
            return [("directions", of_directions(report["cosine"]["mean"]), None)], "converts"
        report = report["outputs"]
        told = subprocess.run([str(resight), "inspect", str(output), "--json"], capture_output=True, text=True, check=True)
        shapes = [[int(side) for side in shape.split()[0].split("x")] for shape in json.loads(told.stdout)["outputs"]]
    return [(one["name"], one["sqnr_db"], shape) for one, shape in zip(report, shapes)], "converts"


def of_directions(cosine):
    """The signal to noise ratio of vectors of length 1 with this cosine, in dB."""
    import numpy

    return -10 * numpy.log10(max(2 * (1 - cosine), 1e-12))


def outputs_of(file, images):
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    runs = [session.run(None, {"input": image}) for image in images]
    return {name: numpy.concatenate([run[at] for run in runs]).astype(numpy.float64) for at, name in enumerate(names)}


def quantised(file, images, method):
    """The outputs of onnxruntime's int8 network."""
    import logging

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

    with tempfile.TemporaryDirectory() as temporary:
        prepared, int8 = pathlib.Path(temporary) / "prepared.onnx", pathlib.Path(temporary) / "int8.onnx"
        # It prints its progress.
        with contextlib.redirect_stdout(sys.stderr):
            try:
                quant_pre_process(str(file), str(prepared))
            except TypeError:  # Its inference of shapes by symbols fails on what normalises a vector.
                quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
            quantize_static(prepared, int8, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                            calibrate_method=getattr(CalibrationMethod, method))
        return outputs_of(int8, images[:8])


def part(values, name, shapes, decoder):
    """What an output of ours is of the file's output, as the decoder sees it."""
    import numpy

    if name == "directions":
        return values["out"] / numpy.linalg.norm(values["out"], axis=-1, keepdims=True)
    base, _, level = name.partition("[")
    whole = values[base]
    if level:
        level = int(level.rstrip("]"))
        numbers = whole.shape[2]
        rows = [numpy.prod(shapes[f"{base}[{at}]"][1:]) // numbers for at in range(level + 1)]
        whole = whole[:, sum(rows[:-1]) : sum(rows)]
    if base not in ("cls_logits", "bbox_ctrness"):
        return whole
    if decoder != "ssd300":
        return 1 / (1 + numpy.exp(-whole))
    powers = numpy.exp(whole - whole.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sqnr(real, found):
    import numpy

    return 10 * numpy.log10((real**2).sum() / max(((real - found) ** 2).sum(), 1e-30))


def run(folder, resight, names, methods, count, smaller):
    columns = [f"{method}, dB" for method in methods]
    print("| network | output | resight, " + " | ".join(columns) + " | onnxruntime min-max | percentile | above the better |\n"
          + "|---" * (len(methods) + 5) + "|", flush=True)
    differences = []
    for full in names:
        name, side, task, decoder = sized(full, smaller)
        file = folder / f"{name}@{side}.onnx"
        if not file.exists():
            continue
        images = corpus.tensors(folder, side)[:count]
        pictures = corpus.pictures(folder, side)
        found = [ours(resight, file, pictures, task, decoder, method, count) for method in methods]
        refused = [outcome for outputs, outcome in found if outputs is None]
        if refused:
            print(f"| {file.stem} | {refused[0]} |" + " |" * (len(methods) + 3), flush=True)
            continue
        real = outputs_of(file, images[:8])
        theirs = [quantised(file, images, kind) for kind in ("MinMax", "Percentile")]
        shapes = {output: shape for output, _, shape in found[0][0]}
        for at, (output, own, _) in enumerate(found[0][0]):
            wanted = part(real, output, shapes, decoder)
            others = [sqnr(wanted, part(values, output, shapes, decoder)) for values in theirs]
            differences.append(own - max(others))
            cells = [outputs[at][1] for outputs, _ in found] + others
            print(f"| {file.stem} | {output} | " + " | ".join(f"{cell:.1f}" for cell in cells) + f" | {differences[-1]:+.1f} |", flush=True)
    if differences:
        print(f"\n{sum(differences) / len(differences):+.1f} dB above the better of the two on average, {min(differences):+.1f} dB at worst.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--resight", default="target/release/resight")
    parser.add_argument("--method", nargs="+", default=["best"])
    parser.add_argument("--pictures", type=int, default=32, help="to calibrate on, for all")
    parser.add_argument("--side", type=int, help="a smaller side, but for detectors")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    names = arguments.names or list(NETWORKS)
    if arguments.what == "make":
        make(arguments.folder, names, arguments.side)
    else:
        run(arguments.folder, arguments.resight, names, arguments.method, arguments.pictures, arguments.side)


if __name__ == "__main__":
    sys.exit(main())
