"""The marker cards: their geometry, and the files that are made from it.

A card is a white square with a black frame and a symbol. Everything is polygons in a square from
(0, 0), top left, to (1, 1), filled by the even-odd rule, so that a printed card, a training image
and the demonstration's clip all show the same thing.

    python cards.py OUTPUT      writes cards.json, cards.svg and cards.pdf
"""

import json
import math
import sys
from pathlib import Path

# In the order of the network's classes; the class after the last is NOTHING.
NAMES = (
    "stop go left right up down circle square triangle star heart cross".split()
)
NOTHING = "nothing"
CLASSES = (*NAMES, NOTHING)

# The frame: from 5 to 11 percent of the side. The symbol fills the square from 19 to 81 percent.
FRAME = (0.05, 0.11)
SYMBOL = (0.19, 0.81)


def rectangle(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def regular(count, radius, start, centre=(0.5, 0.5)):
    """A regular polygon; `start` is the first corner's angle in degrees, 0 to the right."""
    angles = (math.radians(start + 360 * index / count) for index in range(count))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def turned(polygon, quarters):
    """Turned clockwise by quarters of a circle about the centre."""
    for _ in range(quarters):
        polygon = [(1 - y, x) for x, y in polygon]
    return polygon


def arrow():
    """To the right."""
    return [(0, 0.34), (0.46, 0.34), (0.46, 0.06), (1, 0.5), (0.46, 0.94), (0.46, 0.66), (0, 0.66)]


def star():
    outer, inner = regular(5, 0.54, -90, (0.5, 0.54)), regular(5, 0.22, -54, (0.5, 0.54))
    return [corner for pair in zip(outer, inner) for corner in pair]


def heart():
    """The curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t."""
    points = []
    for index in range(72):
        t = 2 * math.pi * index / 72
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((0.5 + 16 * math.sin(t) ** 3 / 33, 0.46 - y / 33))
    return points


def cross():
    """Two bars at right angles, standing on their ends."""
    w = 0.15
    return [
        (w, 0), (0.5, 0.5 - w), (1 - w, 0), (1, w), (0.5 + w, 0.5), (1, 1 - w),
        (1 - w, 1), (0.5, 0.5 + w), (w, 1), (0, 1 - w), (0.5 - w, 0.5), (0, w),
    ]


def tick():
    return [(0, 0.55), (0.16, 0.39), (0.36, 0.6), (0.84, 0.1), (1, 0.26), (0.36, 0.92)]


def symbol(name):
    """The polygons of a symbol, in a square of its own from 0 to 1."""
    return {
        "stop": [regular(8, 0.54, 22.5), rectangle(0.17, 0.4, 0.83, 0.6)],
        "go": [tick()],
        "left": [turned(arrow(), 2)],
        "right": [arrow()],
        "up": [turned(arrow(), 3)],
        "down": [turned(arrow(), 1)],
        "circle": [regular(64, 0.5, 0), regular(64, 0.3, 0)],
        "square": [rectangle(0.06, 0.06, 0.94, 0.94)],
        "triangle": [[(0.5, 0.02), (1.02, 0.92), (-0.02, 0.92)]],
        "star": [star()],
        "heart": [heart()],
        "cross": [cross()],
    }[name]


def frame():
    return [rectangle(edge, edge, 1 - edge, 1 - edge) for edge in FRAME]


def card(name):
    """All black polygons of a card, in the card's square."""
    low, high = SYMBOL
    placed = [[(low + (high - low) * x, low + (high - low) * y) for x, y in polygon] for polygon in symbol(name)]
    return frame() + placed


def as_json():
    cards = [
        {"name": name, "polygons": [[[round(x, 4), round(y, 4)] for x, y in polygon] for polygon in card(name)]}
        for name in NAMES
    ]
    lines = ",\n".join(" " + json.dumps(each, separators=(",", ":")) for each in cards)
    return f"[\n{lines}\n]\n"


def as_svg(side=56, gap=9, left=12, top=16):
    """An A4 sheet with all cards, lengths in millimetres."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="210mm" height="297mm" viewBox="0 0 210 297">',
        "<title>Marker cards of resight</title>",
        '<rect width="210" height="297" fill="#fff"/>',
    ]
    for index, name in enumerate(NAMES):
        x, y = left + index % 3 * (side + gap), top + index // 3 * (side + gap + 4)
        path = "".join(
            "M" + "L".join(f"{x + side * u:.2f},{y + side * v:.2f}" for u, v in polygon) + "Z" for polygon in card(name)
        )
        parts += [
            f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="none" stroke="#bbb" stroke-width=".2"/>',
            f'<path fill-rule="evenodd" d="{path}"><title>{name}</title></path>',
            f'<text x="{x + side / 2}" y="{y + side + 4.5}" font-family="sans-serif" font-size="3.6"'
            f' text-anchor="middle" fill="#666">{name}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def write_pdf(path, side=90, gap=8):
    """Two A4 sheets of six cards, lengths in millimetres."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), pagesize=A4, invariant=1)
    canvas.setTitle("Marker cards of resight")
    for index, name in enumerate(NAMES):
        place = index % 6
        if index and place == 0:
            canvas.showPage()
        x, y = 11 + place % 2 * (side + gap), 297 - 5 - side - place // 2 * (side + gap)
        canvas.setLineWidth(0.2)
        canvas.setStrokeGray(0.75)
        canvas.rect(x * mm, y * mm, side * mm, side * mm)
        path_of_card = canvas.beginPath()
        for polygon in card(name):
            for corner, (u, v) in enumerate(polygon):
                step = path_of_card.lineTo if corner else path_of_card.moveTo
                step((x + side * u) * mm, (y + side * (1 - v)) * mm)
            path_of_card.close()
        canvas.setFillGray(0)
        canvas.drawPath(path_of_card, stroke=0, fill=1, fillMode=0)
        canvas.setFillGray(0.4)
        canvas.setFont("Helvetica", 9)
        canvas.drawCentredString((x + side / 2) * mm, (y - 4.6) * mm, name)
    canvas.save()


def main():
    folder = Path(sys.argv[1])
    (folder / "cards.json").write_text(as_json())
    (folder / "cards.svg").write_text(as_svg())
    write_pdf(folder / "cards.pdf")


if __name__ == "__main__":
    main()
