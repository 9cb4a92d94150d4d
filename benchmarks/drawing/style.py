"""How figures look and are saved: a colour and marker per method, one sparsity axis."""

import math
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

from edgewise.files import write_atomically
from edgewise.method import Family
from methods import METHODS

# Okabe and Ito's palette, told apart by colour-blind readers; its yellow is too pale for lines.
BLUE, GREEN, RED = "#0072B2", "#009E73", "#D55E00"
PINK, SKY, ORANGE = "#CC79A7", "#56B4E9", "#E69F00"
GREY = "#8C8C8C"

_HUES: dict[Family, tuple[str, ...]] = {
    "baseline": (GREY, "#5A5A5A", "#B5B5B5"),
    "attribution": (BLUE, SKY, "#003F6B", "#7A8FD0", "#1F9EC4", "#4B5FA8"),
    "search": (GREEN, "#66C2A5", "#005C43", "#8DB33A"),
    "masks": (RED, ORANGE, "#8C3A00", PINK, "#A8456F", "#F0A36B"),
}
"""The colours of each family: the palette's, and shades of them."""
_OWN = ("#000000", "#7B3294", "#B8860B")
"""The colours of methods that do not come with the package."""
_MARKERS = "osD^vPX*hp"
_LOOKS = {
    "random": (GREY, "."),
    "activation-difference": ("#5A5A5A", "x"),
    "eap": (BLUE, "o"),
    "eap-ig": (SKY, "^"),
    "eap-ig-activations": ("#003F6B", "v"),
    "clean-corrupted": ("#7A8FD0", "<"),
    "ceap": ("#1F9EC4", ">"),
    "mask-ig": ("#4B5FA8", "p"),
    "gim": ("#003F6B", "P"),
    "relp": (SKY, "X"),
    "atp": ("#7A8FD0", "h"),
    "information-flow-routes": ("#1F9EC4", "*"),
    "hisp": ("#4B5FA8", "d"),
    "exact": ("#000000", "+"),
    "acdc": (GREEN, "s"),
    "acdc-ranking": ("#005C43", "s"),
    "edge-pruning": (RED, "D"),
    "edge-pruning-curve": ("#F0A36B", "D"),
    "warm-start": (ORANGE, "D"),
    "matryoshka": (ORANGE, "o"),
    "ugs": (PINK, "^"),
    "node-pruning": ("#8C3A00", "v"),
    "subnetwork-probing": ("#A8456F", "P"),
    "ensemble": (BLUE, "*"),
    "bootstrap": ("#003F6B", "s"),
    "noising-and-denoising": ("#7A8FD0", "D"),
}
"""Fixed by name, so that no method's look moves when others come."""

_SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999)
_FINE = [share / 2 * 10.0**-power for power in range(1, 7) for share in range(20, 2, -1)]
"""Shares of edges kept, for panels without the full model."""
_APART = 0.07
"""The least distance of two labels, as a share of the axis."""
_LINEAR_BELOW = 0.1


@dataclass(frozen=True)
class MethodStyle:
    label: str
    colour: str
    marker: str


def method_style(method: str) -> MethodStyle:
    """A method's name in print, colour and marker.

    A method without a look of its own gets one from its name: a marker, and a shade of its family
    or, of a method of the user's own, of those kept for them.
    """
    known = METHODS.get(method)
    label = known.label if known else method
    if method in _LOOKS:
        return MethodStyle(label, *_LOOKS[method])
    place, hues = zlib.crc32(method.encode()), _HUES[known.family] if known else _OWN
    marker = _MARKERS[place // len(hues) % len(_MARKERS)]
    return MethodStyle(label, hues[place % len(hues)], marker)


def style() -> AbstractContextManager[None]:
    """The look of every figure, within a `with` block."""
    return matplotlib.rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.4,
            "lines.markersize": 4.5,
            "figure.dpi": 150,
            "savefig.dpi": 150,
            "pdf.fonttype": 42,  # TrueType, which journals ask for
            "ps.fonttype": 42,
            # Equal results give equal files.
            "svg.hashsalt": "edgewise",
        }
    )


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as its suffix says. Equal results give equal files: no date goes in."""
    kind = path.suffix.removeprefix(".")
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        write_atomically(path, lambda temporary: _write(figure, temporary, kind))
    figure.set_layout_engine("none")  # it is laid out now: another format takes it as it is
    return path


def _write(figure: Figure, path: Path, kind: str) -> None:
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    figure.savefig(path, format=kind, metadata=metadata)
    if kind == "png":
        in_few_colours(path)


def in_few_colours(path: Path) -> None:
    """A PNG file with at most 256 colours, which takes a third of the space."""
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(dither=Image.Dither.NONE).save(path, "PNG", optimize=True)


def sparsity_axis(axes: Axes, *, fewest_kept: float, most_kept: float) -> None:
    """The share of edges kept, on a log scale from many to few, labelled as sparsity.

    It starts at the full model, `most_kept` 1, or else at the label nearest to the circuits.
    """
    labelled = [1 - sparsity for sparsity in _SPARSITIES]
    left, right = 1.15, fewest_kept / 1.25
    if most_kept < 1:
        labelled = _FINE
        left = 1.02 * min(share for share in _FINE if share >= most_kept)
        right = max((share for share in _FINE if share <= fewest_kept), default=right) / 1.02
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    shown: list[float] = []
    for share in labelled:
        apart = math.log(shown[-1] / share) if shown else math.inf
        if left >= share >= right and apart >= _APART * math.log(left / right):
            shown.append(share)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * (1 - share):.4g}"))
    axes.set_xlabel("sparsity, % of edges removed")


def error_axis(axes: Axes) -> None:
    """A distance from the full model: linear near 0, where good circuits lie, logarithmic beyond.

    A panel whose values are all small stays linear. Both start at 0.
    """
    bottom, top = axes.get_ylim()
    if top < 10 * _LINEAR_BELOW:
        axes.set_ylim(min(bottom, -0.04 * top), top)
        return
    axes.set_yscale("symlog", linthresh=_LINEAR_BELOW, linscale=0.5)
    ticks = [step * 10.0**power for power in range(-1, 6) for step in (1, 2, 5)]
    axes.yaxis.set_major_locator(FixedLocator([0, *(tick for tick in ticks if tick <= top)]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(-0.2 * _LINEAR_BELOW, top * 1.1)
