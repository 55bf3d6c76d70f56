#!/usr/bin/env python3
"""Networks that AIMET has quantised: the float network and its encodings converted, and compared with AIMET itself.

    python3 -m venv venv && venv/bin/pip install pillow aimet-onnx==2.42.0
    venv/bin/python tests/corpus/aimet.py FOLDER F32.onnx [F32.onnx...] --pictures PHOTOS --resight target/debug/resight

By hand. AIMET folds batch normalisation, calibrates each network on the first pictures, writes its encodings in each version that it has, and
gives the logits of its simulation for the others; `resight convert --encodings` makes a model file of each. The
networks take ImageNet's normalisation, in NCHW.
"""

import argparse
import logging
import pathlib
import sys
import tempfile

import compared
import quantised

VERSIONS = ["0.6.1", "1.0.0", "2.0.0"]


def simulated(source, folder, files, others, folds):
    """Exports the encodings, and gives the logits of AIMET's simulation."""
    import numpy
    import onnx
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
    from aimet_onnx.quantsim import QuantizationSimModel

    model = onnx.load(source)
    if folds:
        fold_all_batch_norms_to_weight(model)
    simulation = QuantizationSimModel(model, param_type="int8", activation_type="int8")
    name = simulation.session.get_inputs()[0].name
    simulation.compute_encodings([{name: quantised.tensor(file)} for file in files])
    for version in VERSIONS:
        simulation.export(str(folder), f"aimet-{version}", encoding_version=version)
    rows = [simulation.session.run(None, {name: quantised.tensor(file)})[0][0] for file in others]
    return numpy.stack(rows).astype(numpy.float64)


def main():
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("networks", nargs="+", type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path, help="folder of photographs")
    parser.add_argument("--count", type=int, default=200, help="pictures to compare on")
    parser.add_argument("--unfolded", action="store_true", help="leave batch normalisation apart, to be rounded by itself")
    parser.add_argument("--resight", default="target/debug/resight")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| network | encodings | same best class, % | SQNR, dB |\n|---|---|---|---|", flush=True)
    for network in arguments.networks:
        _, size = quantised.size_of(network)
        files = quantised.prepared_pictures(arguments.pictures, arguments.folder, size, arguments.count)
        others = files[quantised.CALIBRATED :][: arguments.count]
        with tempfile.TemporaryDirectory() as temporary:
            temporary = pathlib.Path(temporary)
            real = simulated(network, temporary, files[: quantised.CALIBRATED], others, not arguments.unfolded)
            for version in VERSIONS:
                name = temporary / f"aimet-{version}"
                ours, refusal = compared.converted_logits(
                    arguments.resight, f"{name}.onnx", real.shape[1], others, "--encodings", f"{name}.encodings",
                    "--preprocess", "imagenet", "--resize", size)
                cells = f"{refusal} | " if ours is None else quantised.alike(real, ours)
                print(f"| {network.stem} | {version} | {cells} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
