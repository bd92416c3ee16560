"""A simulated product marketplace of any size, for demos, tests and scale."""

from __future__ import annotations

from trivium.simulate.files import write
from trivium.simulate.marketplace import Marketplace, simulate
from trivium.simulate.raters import HUMAN_CONFUSION, confusion, draw_grades

__all__ = ["HUMAN_CONFUSION", "Marketplace", "confusion", "draw_grades", "simulate", "write"]
