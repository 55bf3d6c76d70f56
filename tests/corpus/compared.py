"""What the comparisons of converted files with another runtime have in common."""

import json
import pathlib
import subprocess
import tempfile


def files(folder, ending, names):
    """Each file NAME@SIZE of the folder whose name has one of `names`, or all if there are none, and the size."""
    for file in sorted(folder.glob(f"*@*{ending}")):
        if not names or any(name in file.stem for name in names):
            yield file, int(file.stem.rpartition("@")[2])


def pictures(folder, size, calibrated, count):
    """Those of this size that were not calibrated on."""
    return sorted((folder / f"pictures{size}").glob("*.png"))[calibrated:][:count]


def write_labels(file, classes):
    file.write_text("".join(f"class {index}\n" for index in range(classes)))


def resight_logits(resight, model, files, *more):
    """A row of logits for each picture."""
    import numpy

    command = [resight, "classify", model, *files, "--json", "--top", "1000000", *more]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    rows = []
    for picture in json.loads(done.stdout):
        row = numpy.zeros(len(picture["classes"]))
        for entry in picture["classes"]:
            row[entry["class"]] = entry["logit"]
        rows.append(row)
    return numpy.stack(rows)


def converted_logits(resight, file, classes, pictures, *more):
    """The logits of what `resight convert` makes of a file, or why it makes nothing of it, for a table."""
    with tempfile.TemporaryDirectory() as temporary:
        labels, output = (pathlib.Path(temporary) / name for name in ("labels.txt", "model.resight.tar"))
        write_labels(labels, classes)
        command = [resight, "convert", file, "--labels", labels, "-o", output, *more]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            return None, done.stderr.strip().splitlines()[-1].replace("|", "/")
        return resight_logits(resight, output, pictures), None


def same_best(one, other):
    """How often the best class of `other` is one of the best of `one`, in percent; equal logits are no difference."""
    import numpy

    return 100 * (one[numpy.arange(len(one)), other.argmax(1)] == one.max(1)).mean()


def decibel(real, found):
    import numpy

    noise = ((real - found) ** 2).sum()
    return 200.0 if noise == 0 else 10 * numpy.log10((real**2).sum() / noise)
