"""The methods' looks on the page: as in the figures, on a light and on a dark ground."""

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.colors import to_hex, to_rgb

from benchmarks.drawing.style import method_style

LIGHT_GROUND, DARK_GROUND = "#ffffff", "#171a1f"
LEAST_CONTRAST = 3.2, 4.2
"""Of a colour against a light and a dark ground; WCAG asks for 3 of graphical objects."""

_STAR = "M0,-1L.26,-.36L.95,-.31L.42,.14L.59,.81L0,.44L-.59,.81L-.42,.14L-.95,-.31L-.26,-.36Z"
_PENTAGON = "M0,-.95L.9,-.29L.56,.77L-.56,.77L-.9,-.29Z"
_HEXAGON = "M0,-.95L.82,-.47L.82,.47L0,.95L-.82,.47L-.82,-.47Z"
_TURNED = (
    "M-.95,-.5L-.5,-.95L0,-.45L.5,-.95L.95,-.5L.45,0L.95,.5L.5,.95L0,.45L-.5,.95L-.95,.5L-.45,0Z"
)
_SLIM = "M0,-1L.55,0L0,1L-.55,0Z"
_MARKERS = {
    "o": ("circle", "●"),
    "s": ("square", "■"),
    "D": ("diamond", "◆"),
    "d": (_SLIM, "♦"),
    "^": ("triangle-up", "▲"),
    "v": ("triangle-down", "▼"),
    "<": ("triangle-left", "◀"),
    ">": ("triangle-right", "▶"),
    "P": ("cross", "✚"),
    "+": ("cross", "✚"),
    "X": (_TURNED, "✖"),
    "x": (_TURNED, "✖"),
    "*": (_STAR, "★"),
    "p": (_PENTAGON, "⬟"),
    "h": (_HEXAGON, "⬢"),
    ".": ("circle", "∙"),
}
"""A marker of matplotlib -> Vega's shape, and the sign that stands for it in text."""


@dataclass(frozen=True)
class Look:
    label: str
    light: str
    dark: str
    shape: str
    sign: str


def looks_of(methods: Iterable[str]) -> list[Look]:
    """In the order given; each method once."""
    return [_look(method) for method in dict.fromkeys(methods)]


def _look(method: str) -> Look:
    known = method_style(method)
    shape, sign = _MARKERS.get(known.marker, ("circle", "●"))
    light = readable(known.colour, LIGHT_GROUND)
    return Look(known.label, light, readable(known.colour, DARK_GROUND), shape, sign)


def readable(colour: str, ground: str) -> str:
    """The colour, made lighter or darker until it stands out from the ground."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    is_dark = _luminance(ground) < 0.5
    step, least = (0.02 if is_dark else -0.02), LEAST_CONTRAST[is_dark]
    while contrast(colour, ground) < least and 0 <= lightness + step <= 1:
        lightness += step
        colour = to_hex(colorsys.hls_to_rgb(hue, lightness, saturation))
    return colour


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio, from 1 to 21."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
