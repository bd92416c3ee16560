"""An UpSet picture: which sets of channels found the candidates, and how many.

After Lex et al., "UpSet: visualization of intersecting sets", TVCG 2014, with the sets as rows, so
that it fits a narrow page: above, all that each channel found; below, a row for each set of
channels, dots for its members, and a bar for the pairs that these channels and no others found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from trivium.adapters import templates
from trivium.adapters.figures import PALETTE, canvas, svg

SETS = 20
"""Sets drawn, the largest first; the rest are counted in a last line."""

_NARROW, _MARGIN, _COLUMN, _ROW = 380.0, 8.0, 25.0, 20.0
_TALLEST, _LABEL = 46.0, 16.0
_CHARACTER, _SHARE, _LEAST_BAR = 6.5, 50.0, 80.0
_LONGEST_NAME = 18


@dataclass(frozen=True)
class Sets:
    """Sets of channels and what they found.

    Attributes:
        channels: All channels, in order.
        members: The channels of each set, most pairs first.
        pairs: What exactly these channels found, by set.
        sizes: All that each channel found.
        total: All pairs.
    """

    channels: list[str]
    members: list[list[str]]
    pairs: list[int]
    sizes: Mapping[str, int]
    total: int

    @classmethod
    def of(cls, found_by: pl.DataFrame, channels: Sequence[str] = ()) -> Sets:
        """Take the sets of a table.

        Args:
            found_by: Columns channels (names joined by "+") and pairs.
            channels: The channels in order, those that found nothing too; else as they come.
        """
        rows = found_by.sort(-pl.col("pairs"), "channels").select("channels", "pairs").rows()
        members = [names.split("+") for names, _ in rows]
        known = dict.fromkeys([*channels, *(name for names in members for name in names)])
        pairs = [count for _, count in rows]
        sizes = {
            name: sum(n for names, n in zip(members, pairs, strict=True) if name in names)
            for name in known
        }
        return cls(list(known), members, pairs, sizes, sum(pairs))

    @property
    def alone(self) -> float:
        """The share of pairs that a single channel found."""
        single = (n for names, n in zip(self.members, self.pairs, strict=True) if len(names) == 1)
        return sum(single) / max(self.total, 1)

    @property
    def rest(self) -> str:
        """What the sets that are not drawn hold, in words; empty if there are none."""
        left = self.pairs[SETS:]
        noun = "set" if len(left) == 1 else "sets"
        return f"and {len(left)} more {noun} with {sum(left):,} pairs" if left else ""


def upset(sets: Sets) -> str | None:
    """Draw the sets, the `SETS` largest of them; None if nothing was found."""
    if not sets.total:
        return None
    longest = max(len(_short(name)) for name in sets.channels)
    names = _LABEL + _TALLEST + 6
    top = names + longest * _CHARACTER + 10
    rows = min(len(sets.pairs), SETS)
    width, height = _width(sets), round(top + rows * _ROW + (24 if sets.rest else 6))
    with canvas(round(width), height) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        _sizes(axes, sets, names)
        for place in range(rows):
            _row(axes, sets, place, top + place * _ROW)
        _words(axes, sets, top, rows)
        return svg(figure, "upset", _spoken(sets, rows))


def _sizes(axes: Any, sets: Sets, names: float) -> None:
    """A column for each channel: a bar as high as all that it found, its name below."""
    largest = max(sets.sizes.values())
    base = _LABEL + _TALLEST
    for place, name in enumerate(sets.channels):
        x, height = _x(place), _TALLEST * sets.sizes[name] / largest
        _bar(axes, x - 8, base - height, 16, height, PALETTE["muted"])
        small = {"ha": "center", "va": "bottom", "size": 9, "color": PALETTE["muted"]}
        axes.text(x, base - height - 2, _compact(sets.sizes[name]), **small)
        turned = {"rotation": 90, "ha": "center", "va": "top", "color": PALETTE["ink"]}
        axes.text(x, names, _short(name), **turned)


def _row(axes: Any, sets: Sets, place: int, y: float) -> None:
    """A set: dots for its channels, a bar for its pairs."""
    members, pairs, middle = sets.members[place], sets.pairs[place], y + _ROW / 2
    if place % 2 == 0:
        _bar(axes, 0, y, _width(sets), _ROW, PALETTE["band"])
    inside = [at for at, name in enumerate(sets.channels) if name in members]
    line = {"color": PALETTE["ink"], "linewidth": 2, "solid_capstyle": "butt"}
    axes.plot([_x(inside[0]), _x(inside[-1])], [middle, middle], **line)
    for at in range(len(sets.channels)):
        colour = PALETTE["ink" if at in inside else "line"]
        axes.scatter(_x(at), middle, s=64, color=colour, linewidth=0, zorder=3)
    left, right = _left(sets), _width(sets) - _MARGIN
    width = (right - _beside(sets) - left) * pairs / sets.pairs[0]
    _bar(axes, left, y + 4, max(width, 1), _ROW - 8, PALETTE["accent"])
    axes.text(left + width + 5, middle, f"{pairs:,}", va="center", color=PALETTE["ink"])
    share = templates.percent(pairs / sets.total)
    axes.text(right, middle, share, va="center", ha="right", color=PALETTE["muted"])


def _words(axes: Any, sets: Sets, top: float, rows: int) -> None:
    muted = {"color": PALETTE["muted"], "ha": "left"}
    left = _left(sets)
    axes.text(left, _LABEL + _TALLEST, "all that a channel found", va="bottom", **muted)
    axes.text(left, top - 6, "found by exactly these channels", va="bottom", **muted)
    if sets.rest:
        axes.text(_MARGIN, top + rows * _ROW + 5, sets.rest, va="top", **muted)


def _bar(axes: Any, x: float, y: float, width: float, height: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, linewidth=0))


def _x(place: int) -> float:
    return _MARGIN + _COLUMN * (place + 0.5)


def _left(sets: Sets) -> float:
    return _MARGIN + _COLUMN * len(sets.channels) + 10


def _beside(sets: Sets) -> float:
    """What a bar's pairs and their share take."""
    return len(f"{sets.pairs[0]:,}") * _CHARACTER + _SHARE


def _width(sets: Sets) -> float:
    return max(_NARROW, _left(sets) + _LEAST_BAR + _beside(sets) + _MARGIN)


def _spoken(sets: Sets, rows: int) -> str:
    drawn = zip(sets.members[:rows], sets.pairs, strict=False)
    parts = [f"{' and '.join(names)}, {count:,}" for names, count in drawn]
    return (
        f"Pairs by the channels that found them: {'; '.join([*parts, *filter(None, [sets.rest])])}"
    )


def _compact(count: int) -> str:
    """A count in three digits or so."""
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.{1 if count < 9.95 * unit else 0}f}{letter}"
    return str(count)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
