#!/usr/bin/env python3
"""Makes the golden files of the preprocessing tests anew, with Pillow and OpenCV as the references.

    python3 -m venv .venv && .venv/bin/pip install pillow numpy opencv-python-headless
    .venv/bin/python tests/preprocessing_golden.py

It writes firmware/imaging/tests/data: crops.txt with the sha256 of crops that Pillow
resized, interpolations.txt with pictures that Pillow and OpenCV resized by other kernels,
and small images with the pixels that Pillow decodes. Everything is generated; the
same Pillow gives the same files.
"""

import hashlib
import io
import pathlib
import struct
import zlib

import cv2
import numpy
from PIL import Image

DATA = pathlib.Path(__file__).resolve().parent.parent / "firmware" / "imaging" / "tests" / "data"

# width, height, length of the shorter side, crop height, crop width
CROPS = [
    (299, 299, 256, 224, 224),
    (500, 375, 256, 224, 224),
    (375, 500, 256, 224, 224),
    (640, 480, 256, 224, 224),
    (1920, 1080, 256, 224, 224),
    (101, 67, 256, 224, 224),
    (256, 256, 256, 224, 224),
    (256, 333, 256, 224, 224),
    (255, 257, 256, 224, 224),
    (511, 300, 256, 223, 225),
    (300, 511, 256, 256, 256),
    (2, 3, 256, 224, 224),
    (1, 1, 256, 224, 224),
    (1, 40, 256, 224, 224),
    (40, 1, 256, 224, 224),
    (700, 3, 64, 31, 64),
    (3, 700, 64, 64, 33),
    (32, 32, 32, 32, 32),
    (48, 32, 32, 32, 32),
    (90, 33, 32, 32, 32),
    (4000, 3000, 8, 5, 6),
    (777, 555, 1, 1, 1),
]

# width, height, and those of what it is resized to
RESIZED = [(64, 48, 32, 24), (64, 48, 27, 19), (31, 17, 50, 40), (300, 200, 8, 8), (5, 4, 1, 1), (1, 1, 6, 5)]

# names in preprocessing.json
PILLOW = {"bicubic": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX}

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def generated(width, height):
    """The test image: noise, the same as in tests/preprocessing.rs."""
    pixels = bytearray()
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                h = (x * 0x9E3779B1 + y * 0x85EBCA77 + channel * 0xC2B2AE3D) & 0xFFFFFFFF
                h = ((h ^ (h >> 15)) * 0x2C1B3CE5) & 0xFFFFFFFF
                h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
                pixels.append(h >> 24)
    return Image.frombytes("RGB", (width, height), bytes(pixels))


def crop(image, shorter, crop_height, crop_width):
    """torchvision's Resize(shorter) and CenterCrop(crop), spelt out."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(shorter * long / short)
    size = (shorter, other) if width <= height else (other, shorter)
    image = image.resize(size, Image.Resampling.BILINEAR)
    top = int(round((size[1] - crop_height) / 2.0))
    left = int(round((size[0] - crop_width) / 2.0))
    return image.crop((left, top, left + crop_width, top + crop_height))


def interpolations():
    """Pictures by other kernels than the default: a digest of Pillow's, all pixels of OpenCV's."""
    with open(DATA / "interpolations.txt", "w") as file:
        file.write("# kernel width height new_width new_height sha256 of Pillow's pixels or OpenCV's pixels\n")
        for width, height, *size in RESIZED:
            image = generated(width, height)
            for name, kernel in PILLOW.items():
                digest = hashlib.sha256(image.resize(size, kernel).tobytes()).hexdigest()
                print(name, width, height, *size, digest, file=file)
            pixels = cv2.resize(numpy.asarray(image), size, interpolation=cv2.INTER_LINEAR).tobytes()
            print("bilinear-without-antialias", width, height, *size, pixels.hex(), file=file)


def f32(value):
    """Rounded to single precision."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def normalised(image):
    """ToTensor and Normalize, in single precision, channel by channel."""
    planes = b""
    for channel, (mean, deviation) in enumerate(zip(MEAN, DEVIATION)):
        for value in image.tobytes()[channel::3]:
            difference = f32(f32(value / 255.0) - f32(mean))
            planes += struct.pack("<f", difference / f32(deviation))
    return planes


def png(name, width, height, depth, colour, rows, chunks=()):
    """A PNG file of raw rows, for the formats that Pillow does not write."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    data += b"".join(chunk(kind, content) for kind, content in chunks)
    data += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9)) + chunk(b"IEND", b"")
    (DATA / name).write_bytes(data)


def noise(length, seed):
    """Bytes without a pattern."""
    return bytes(hashlib.sha256(bytes([seed, index])).digest()[0] for index in range(length))


def images():
    """One image of each kind."""
    rows = lambda length, seed: [noise(length, seed), noise(length, seed + 1), noise(length, seed + 2)]
    palette = (b"PLTE", noise(16 * 3, 90))
    grey = bytes(range(0, 250, 25))
    png("grey1.png", 10, 3, 1, 0, rows(2, 1))
    png("grey2.png", 10, 3, 2, 0, rows(3, 4))
    png("grey4.png", 10, 3, 4, 0, rows(5, 7))
    png("grey8.png", 10, 3, 8, 0, rows(10, 10))
    png("grey8_transparent.png", 10, 1, 8, 0, [grey], [(b"tRNS", struct.pack(">H", 100))])
    png("grey_alpha8.png", 10, 3, 8, 4, rows(20, 13))
    png("grey_alpha16.png", 10, 3, 16, 4, rows(40, 16))
    png("rgb8.png", 10, 3, 8, 2, rows(30, 19))
    png("rgb16.png", 10, 3, 16, 2, rows(60, 22))
    png("rgba8.png", 10, 3, 8, 6, rows(40, 25))
    png("rgba16.png", 10, 3, 16, 6, rows(80, 28))
    png("palette4.png", 10, 3, 4, 3, rows(5, 31), [palette])
    png("palette4_transparent.png", 10, 3, 4, 3, rows(5, 34), [palette, (b"tRNS", noise(9, 91))])
    png("grey16.png", 10, 3, 16, 0, rows(20, 37))
    generated(48, 40).resize((96, 80)).save(DATA / "photograph.jpg", quality=85, subsampling="4:2:0")
    generated(12, 10).resize((24, 20)).convert("L").save(DATA / "grey.jpg", quality=90)


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    with open(DATA / "crops.txt", "w") as file:
        file.write("# width height shorter crop_height crop_width sha256 of the crop, of the normalised crop\n")
        for width, height, shorter, crop_height, crop_width in CROPS:
            result = crop(generated(width, height), shorter, crop_height, crop_width)
            digests = [hashlib.sha256(b).hexdigest() for b in (result.tobytes(), normalised(result))]
            print(width, height, shorter, crop_height, crop_width, *digests, file=file)
    interpolations()
    images()
    with open(DATA / "images.txt", "w") as file:
        file.write("# file width height RGB pixels as Pillow converts them\n")
        for path in sorted(DATA.glob("*.png")):
            image = Image.open(path)
            pixels = image.convert("RGB").tobytes()
            if image.mode == "I;16":
                # Pillow saturates 16-bit grey; the upper byte is what is meant.
                pixels = b"".join(bytes([value >> 8]) * 3 for value in struct.unpack("<30H", image.tobytes()))
            print(path.name, *image.size, pixels.hex(), file=file)


if __name__ == "__main__":
    main()
