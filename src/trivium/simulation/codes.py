"""What items offer and what queries ask for, as one set of parallel code arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from trivium.simulation.vocabulary import Ints, Places

ATTRIBUTES = ("brand", "colour", "material", "size", "pack", "device")


@dataclass(frozen=True)
class Codes:
    """Codes of a `Vocabulary`, one row an item or a query, all arrays of shape (rows,).

    Attributes:
        kind: Place in `PRODUCT_TYPES`; always known.
        brand: Brand; like all below, -1 where the item does not state it or the query asks for
            none.
        colour: Colour.
        material: Material.
        size: Size.
        pack: Pack count.
        device: Device that it must fit.
        series: Product line, the model number without its last letter.
        variant: Place of that letter in the alphabet; -1 together with `series`.
    """

    kind: Ints
    brand: Ints
    colour: Ints
    material: Ints
    size: Ints
    pack: Ints
    device: Ints
    series: Ints
    variant: Ints

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, rows: Places) -> Codes:
        """The rows at these places, in that order."""
        return Codes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @staticmethod
    def concat(parts: list[Codes]) -> Codes:
        """All rows of all parts, in order."""
        return Codes(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Codes)}
        )
