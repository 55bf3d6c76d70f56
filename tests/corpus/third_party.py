#!/usr/bin/env python3
"""Quantised networks as PyTorch, Neural Compressor and Brevitas write them, for `quantised.py run`.

    python3 -m venv venv && venv/bin/pip install numpy pillow onnx onnxscript onnxruntime torch torchvision torchao==0.18.0 brevitas==0.13.4 onnxoptimizer==0.4.2
    venv/bin/python tests/corpus/third_party.py FOLDER --pictures PHOTOS [--tools pt2e neural-compressor brevitas]
    venv/bin/python tests/corpus/quantised.py run FOLDER third --resight target/debug/resight

By hand. The network is a small residual one with seeded weights whose normalisations have the statistics of the
pictures; a tool that is not installed is named and left out (Neural Compressor wants a venv of its own).
"""

import argparse
import contextlib
import pathlib
import sys

import quantised

SIZE = 64


def network():
    """Stem, two blocks with and without a shortcut of their own, a classifier of 20."""
    import torch
    from torch import nn

    torch.manual_seed(1)

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            own = stride != 1 or inputs != outputs
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)) if own else nn.Identity()
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
            return self.relu2(y + self.shortcut(x))

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 20))


def trained(files):
    """The network with the statistics of the pictures, and these pictures."""
    import numpy
    import torch

    pictures = torch.from_numpy(numpy.concatenate([quantised.tensor(file) for file in files]))
    model = network().train()
    with torch.no_grad():
        for _ in range(20):
            model(pictures)
    return model.eval(), pictures


def pt2e(folder, files):
    """PyTorch 2's export quantisation, by torchao, with the quantiser for x86."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    model, pictures = trained(files)
    exported = torch.export.export(model, (pictures[:1],)).module()
    quantiser = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, quantiser)
    for picture in pictures:
        prepared(picture[None])
    converted = convert_pt2e(prepared)
    torch.onnx.export(converted, (pictures[:1],), folder / f"third-pt2e@{SIZE}.onnx", dynamo=True, external_data=False)


def neural_compressor(folder, files):
    """Neural Compressor's post-training quantisation of ONNX files; the f32 file is made where torch is."""
    from neural_compressor import PostTrainingQuantConfig, quantization

    source = folder / f"f32-{SIZE}.onnx"
    if not source.exists():
        import torch

        model, pictures = trained(files)
        torch.onnx.export(model, (pictures[:1],), source, dynamo=False)

    class Loader:
        batch_size = 1

        def __iter__(self):
            return ((quantised.tensor(file), 0) for file in files)

    for form in ("QDQ", "QOperator"):
        options = PostTrainingQuantConfig(approach="static", quant_format="QDQ" if form == "QDQ" else "default")
        done = quantization.fit(str(source), options, calib_dataloader=Loader())
        done.save(str(folder / f"third-neural-compressor-{form.lower()}@{SIZE}.onnx"))


def brevitas(folder, files):
    """Brevitas's post-training quantisation of a PyTorch graph, exported in QDQ."""
    import torch
    from brevitas.export import export_onnx_qcdq
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    model, pictures = trained(files)
    prepared = preprocess_for_quantize(torch.fx.symbolic_trace(model))
    done = quantize(prepared)
    with torch.no_grad(), calibration_mode(done):
        for picture in pictures:
            done(picture[None])
    export_onnx_qcdq(done, pictures[:1], export_path=str(folder / f"third-brevitas@{SIZE}.onnx"), dynamo=False)


TOOLS = {"pt2e": pt2e, "neural-compressor": neural_compressor, "brevitas": brevitas}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--tools", nargs="*", default=[*TOOLS])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    files = quantised.prepared_pictures(arguments.pictures, arguments.folder, SIZE, arguments.count)
    for tool in arguments.tools:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                TOOLS[tool](arguments.folder, files[: quantised.CALIBRATED])
            print("made", tool, flush=True)
        except Exception as error:  # One tool must not stop the others.
            print("not made", tool, repr(error)[:300], flush=True)


if __name__ == "__main__":
    sys.exit(main())
