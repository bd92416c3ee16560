"""A simulated product marketplace of any size, for demos, tests and scale."""

from __future__ import annotations

from trivium.simulation.files import write
from trivium.simulation.marketplace import Marketplace, simulate
from trivium.simulation.raters import HUMAN_CONFUSION, confusion, draw_grades

__all__ = ["HUMAN_CONFUSION", "Marketplace", "confusion", "draw_grades", "simulate", "write"]
