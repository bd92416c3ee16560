"""All values of all product types as numbered lists, so that items and intents are arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.simulation.goods_home import HOME_TYPES
from trivium.simulation.goods_tech import TECH_TYPES
from trivium.simulation.schemas import (
    COLOUR_FAMILIES,
    DEVICE_FORMS,
    DEVICES,
    PACK_FORMS,
    UNIT_FORMS,
    ProductType,
)

Ints = NDArray[np.int32]
Places = NDArray[np.integer[Any]]

PRODUCT_TYPES: tuple[ProductType, ...] = (*HOME_TYPES, *TECH_TYPES)
FORMS = 4
NO_CODE = -1

_ONSETS = ("v", "z", "qu", "kr", "th", "dr", "x", "br", "sk", "fl", "gn", "pl", "y", "tr", "w")
_VOWELS = ("a", "e", "i", "o", "u", "ae", "y")
_CODAS = ("x", "nt", "rk", "lm", "zz", "sk", "v", "th", "ro", "ntra", "lix", "dur", "mo")
_NAMES = len(_ONSETS) * len(_VOWELS) * len(_CODAS)


@dataclass(frozen=True)
class TypeCodes:
    """The codes that one product type draws its values from; empty where it has no such field."""

    brand: Ints
    rare_brand: Ints
    colour: Ints
    material: Ints
    size: Ints
    pack: Ints
    device: Ints
    noun: Ints
    feature: Ints


@dataclass
class _Numbering:
    """Values in the order in which they were first met."""

    values: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)

    def of(self, values: tuple[str, ...]) -> Ints:
        for value in values:
            if value not in self.codes:
                self.codes[value] = len(self.values)
                self.values.append(value)
        return np.array([self.codes[value] for value in values], dtype=np.int32)


class Vocabulary:
    """Every value a marketplace uses, and its code: its place in one of these lists.

    Sizes are numbered for each product type on their own, in order, so that codes that differ by
    one are neighbouring sizes. Written forms are flat lists, `FORMS` entries a code.

    Attributes:
        brands: Common brands, then `rare_brands` invented names.
        colours: Colours; `colour_family` holds each one's family.
        materials: Materials.
        sizes: Sizes in their plain form; `size_forms` has them as written, `size_ordered` whether
            neighbours are nearly the same.
        packs: Pack counts in their plain form; `pack_forms` has them as written.
        devices: Devices by full name; `device_forms` has them as titles write them and
            `device_short` as shoppers do.
        nouns: What titles call the types.
        features: What titles add.
        types: The codes of each type, in the order of `PRODUCT_TYPES`.
        related: Whether two types are siblings, accessories or complements, (types, types).
    """

    def __init__(self, rare_brands: int) -> None:
        brands, colours, materials, packs = (_Numbering() for _ in range(4))
        devices, nouns, features = (_Numbering() for _ in range(3))
        self.sizes: list[str] = []
        self.size_forms: list[str] = []
        self._ordered: list[bool] = []
        common = [brands.of(kind.brands) for kind in PRODUCT_TYPES]
        rare = _rare_codes(rare_brands, first=len(brands.values))
        self.brands = [*brands.values, *(invented_brand(i) for i in range(rare_brands))]
        self.types = [
            TypeCodes(
                brand=common[i],
                rare_brand=rare[i],
                colour=colours.of(kind.colours),
                material=materials.of(kind.materials),
                size=self._add_sizes(kind),
                pack=packs.of(kind.packs),
                device=devices.of(tuple(full for full, _ in _devices(kind))),
                noun=nouns.of(kind.nouns),
                feature=features.of(kind.features),
            )
            for i, kind in enumerate(PRODUCT_TYPES)
        ]
        self.colours, self.materials = colours.values, [m.lower() for m in materials.values]
        self.packs = [f"{count} pack" for count in packs.values]
        self.pack_forms = [form.format(count) for count in packs.values for form in PACK_FORMS]
        self.devices, self.nouns, self.features = devices.values, nouns.values, features.values

    @cached_property
    def device_short(self) -> list[str]:
        """The name that shoppers type for each device."""
        short = {full: name for names in DEVICES.values() for full, name in names}
        return [short[device] for device in self.devices]

    @cached_property
    def device_forms(self) -> list[str]:
        """Each device as titles write it; the last form uses the short name."""
        return [
            form.format(short if i == FORMS - 1 else full)
            for full, short in zip(self.devices, self.device_short, strict=True)
            for i, form in enumerate(DEVICE_FORMS)
        ]

    @cached_property
    def colour_family(self) -> Ints:
        """The family of each colour."""
        family = {name: i for i, names in enumerate(COLOUR_FAMILIES) for name in names}
        return np.array([family[colour] for colour in self.colours], dtype=np.int32)

    @cached_property
    def size_ordered(self) -> NDArray[np.bool_]:
        """Whether the neighbours of each size are nearly the same size."""
        return np.array(self._ordered, dtype=np.bool_)

    @cached_property
    def related(self) -> NDArray[np.bool_]:
        """Symmetric relation of the types, (types, types), false on the diagonal."""
        place = {kind.name: i for i, kind in enumerate(PRODUCT_TYPES)}
        related = np.zeros((len(PRODUCT_TYPES), len(PRODUCT_TYPES)), dtype=np.bool_)
        for i, kind in enumerate(PRODUCT_TYPES):
            for name in kind.related:
                related[i, place[name]] = related[place[name], i] = True
        return related

    def _add_sizes(self, kind: ProductType) -> Ints:
        first = len(self.sizes)
        if kind.sizes is not None:
            forms = UNIT_FORMS[kind.sizes.unit]
            for value in kind.sizes.values:
                self.sizes.append(forms[0].format(value))
                self.size_forms += [form.format(value) for form in forms]
                self._ordered.append(kind.sizes.ordered)
        return np.arange(first, len(self.sizes), dtype=np.int32)


def invented_brand(number: int) -> str:
    """A rare brand's name: the same number always gives the same name, no two numbers one name."""
    place = number * 577 % _NAMES  # 577 is coprime with the number of names
    place, coda = divmod(place, len(_CODAS))
    onset, vowel = divmod(place, len(_VOWELS))
    name = (_ONSETS[onset] + _VOWELS[vowel] + _CODAS[coda]).capitalize()
    series = number // _NAMES
    return name if not series else f"{name}{_ONSETS[series % len(_ONSETS)]}{series}"


def _devices(kind: ProductType) -> tuple[tuple[str, str], ...]:
    return DEVICES[kind.device] if kind.device else ()


def _rare_codes(count: int, first: int) -> list[Ints]:
    """Each rare brand sells two types; brand numbers start at `first`."""
    types = len(PRODUCT_TYPES)
    number = np.arange(count)
    sells = ((number % types), (number * 7 + 3) % types)
    return [
        np.flatnonzero((sells[0] == kind) | (sells[1] == kind)).astype(np.int32) + first
        for kind in range(types)
    ]
