"""Matplotlib figures as inline SVG in the style of the page: its text colour, its light or dark background,
its fonts.

Matplotlib writes fixed colours. Text and axes are therefore drawn in a reserved colour, which becomes
``currentColor`` in the SVG; the background stays transparent. The output is deterministic.
"""

import io
import re
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

_INK = "#010203"  # stands for the page's text colour
_FAINT = "#040506"  # stands for grid lines
# Medium tones that are visible on white and on black: COLOURS for trained models and for groups,
# MUTED for baselines.
COLOURS = (
    "#3b82c4",
    "#e07b39",
    "#3a9d6b",
    "#c0508f",
    "#8a6fd1",
    "#b59a2b",
    "#d9534f",
    "#2aa5a5",
    "#7a8f2e",
    "#a3704c",
    "#5f7fe0",
    "#d08ab8",
)
MUTED = ("#8a8f98", "#c2a14d", "#9c7fb0")


@contextmanager
def style():
    """Settings under which every figure of the report is drawn."""
    ink = {
        name: _INK
        for name in (
            "text.color",
            "axes.labelcolor",
            "axes.edgecolor",
            "xtick.color",
            "ytick.color",
            "axes.titlecolor",
        )
    }
    look = {
        "svg.fonttype": "none",
        "svg.hashsalt": "pydino",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 10,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "legend.frameon": False,
        "axes.grid": True,
        "grid.color": _FAINT,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(ink | look):
        yield


def new_figure(rows: int = 1, columns: int = 1, squeeze: bool = True, **options):
    """Return (figure, axes) as ``pyplot.subplots`` does, without pyplot, which takes long to import and keeps
    every figure in memory.
    """
    figure = Figure(**options)
    return figure, figure.subplots(rows, columns, squeeze=squeeze)


def to_svg(figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element. ``name``: unique on the page, prefixed to every id in the
    drawing.
    """
    stream = io.StringIO()
    figure.savefig(
        stream,
        format="svg",
        bbox_inches="tight",
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    # not needed inside HTML; keeps the page free of addresses
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--grid)")
    svg = re.sub(r"font:\s*([\d.]+)px[^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    svg = re.sub(r'width="[^"]*pt"', "", re.sub(r'height="[^"]*pt"', "", svg, count=1), count=1)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace(
        "<svg", f'<svg role="img" aria-label="{label}" style="max-width: {_width(svg)}px"', 1
    ).strip()


def _width(svg: str) -> int:
    """Width in CSS pixels at which the text has the size of the page's small print (points * 4/3)."""
    box = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    return round(float(box.group(1)) * 4 / 3)
