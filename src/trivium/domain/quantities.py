"""Numbers with units, however they are written: `1/2 in`, `.5"`, `pack of 12`, `4x8 ft`."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

import polars as pl

UNITS = {
    "inch": 'inches inch in "',
    "foot": "feet foot ft '",
    "yard": "yards yard yd",
    "mm": "millimeters millimeter mm",
    "cm": "centimeters centimeter cm",
    "metre": "meters meter metres metre m",
    "square foot": "sqft sf",
    "cubic foot": "cuft cf",
    "gallon": "gallons gallon gal",
    "quart": "quarts quart qt",
    "ounce": "ounces ounce oz",
    "pound": "pounds pound lbs lb",
    "gram": "grams gram gr g",
    "kg": "kilograms kilogram kg",
    "litre": "liters liter litres litre ltr l",
    "ml": "milliliters milliliter ml",
    "watt": "watts watt w",
    "volt": "volts volt v",
    "amp": "amperes amps amp",
    "horsepower": "horsepower hp",
    "btu": "btus btu",
    "gauge": "gauge ga",
    "flow": "gpm",
    "air": "cfm",
    "pressure": "psi",
    "lumen": "lumens lumen",
    "gb": "gigabytes gigabyte gb",
    "tb": "terabytes terabyte tb",
    "mb": "megabytes megabyte mb",
    "hz": "hertz hz",
    "ghz": "ghz",
    "mah": "mah",
    "megapixel": "megapixels megapixel mp",
    "pack": "packs pack pk count ct pieces piece pcs pc",
    "percent": "percent %",
}
"""What a unit is called, and how it is written."""

MARK = "\x01"
"""What `mark` sets before and after each size."""

_ALIASES = {alias: unit for unit, aliases in UNITS.items() for alias in aliases.split()}
_SPELT = "|".join(sorted((a for a in _ALIASES if a.isalpha()), key=lambda a: (-len(a), a)))
_SIGNS = "".join(a for a in _ALIASES if not a.isalpha())
_UNIT = rf"(?:(?:{_SPELT})\b|[{_SIGNS}])"
_PACK_OF = r"(?:pack|set|box|case) of \d+"

NUMBER = r"\d+[ -]\d+/\d+|\d+/\d+|\d*\.\d+|\d+"
QUANTITY = rf"{_PACK_OF}|(?:{NUMBER})[\s-]*{_UNIT}"

_AMOUNT = rf"(?:\b(?:{NUMBER})|\.\d+)"
_SIDE = rf"(?:[\s-]*(?:{_SPELT}|[{_SIGNS}])\.?)?(?:\s?[whdl]\.?)?"
_LAST_SIDE = rf"(?:[\s-]*{_UNIT}\.?)?(?:\s?[whdl]\b\.?)?"
_SIZES = rf"{_AMOUNT}(?:{_SIDE}\s*(?:x|by)\s*(?:{NUMBER}))+{_LAST_SIDE}"
_PER_PACK = rf"{_AMOUNT}(?:\s*/\s*|[\s-]per[\s-])(?:pack|box|case|carton|bag)\b"
_SIZE = rf"{_SIZES}|{_PACK_OF}|{_PER_PACK}|{_AMOUNT}[\s-]*{_UNIT}"
_NUMBER_IN = re.compile(NUMBER)
_LENGTH_IN = re.compile(rf"({NUMBER})(?:[\s-]*({_SPELT}|[{_SIGNS}])(?![a-wyz]))?")

_SIDES = {"w", "h", "d", "l"}  # width, height, depth and length, not watts and litres
_SAME = {
    "foot": (12.0, "inch"),
    "yard": (36.0, "inch"),
    "cm": (10.0, "mm"),
    "metre": (1000.0, "mm"),
    "quart": (0.25, "gallon"),
    "pound": (16.0, "ounce"),
    "kg": (1000.0, "gram"),
    "litre": (1000.0, "ml"),
    "ghz": (1e9, "hz"),
}


def plain(texts: pl.Series) -> pl.Series:
    """Lower case without accents; marks, fractions, thousands and areas in one spelling."""
    return (
        texts.str.replace_all(r"([¼½¾⅓⅔⅛⅜⅝⅞])", " ${1}")
        .str.replace_all("[\u2033\u201d]|''", '"')
        .str.replace_all("[\u2032\u2019]", "'")
        .str.normalize("NFKD")
        .str.replace_all(r"\p{M}", "")
        .str.to_lowercase()
        .str.replace_all("\u2044", "/", literal=True)
        .str.replace_all(r"(\d),(\d{3})\b", "${1}${2}")
        .str.replace_all(r"(\p{L})'(\p{L})", "${1}${2}")
        .str.replace_all(r"\b(?:sq\.?|square) (?:ft\b|feet\b|foot\b)", "sqft")
        .str.replace_all(r"\b(?:cu\.?|cubic) (?:ft\b|feet\b|foot\b)", "cuft")
    )


def value(number: str) -> float:
    """A number as it was written: `3`, `.5`, `1/2`, `1-1/2`."""
    *whole, last = re.split("[ -]", number)
    above, _, below = last.partition("/")
    part = float(above) / (float(below or 1) or 1.0)
    return round(sum(float(w) for w in whole) + part, 4)


def quantity(text: str) -> tuple[str, float]:
    """Unit and amount of a quantity that `QUANTITY` found: `1/2 in`, `12-pk`, `set of 3`."""
    number = _NUMBER_IN.search(text)
    assert number is not None
    unit = _ALIASES.get(text[number.end() :].strip(" -\t\n"), "pack")
    return unit, value(number.group())


def sizes(texts: pl.Series) -> pl.Series:
    """The sizes in texts: quantities, and numbers joined by `x`, as they are written.

    Args:
        texts: As `plain` leaves them.

    Returns:
        A list of strings for each text, each of them for `canonical`.
    """
    return _protected(texts).str.extract_all(_SIZE)


def mark(texts: pl.Series) -> pl.Series:
    r"""Set `MARK` before and after each size, so that every other piece of a split is one.

    Example:
        >>> mark(pl.Series(["1/2 in pvc", "2-in-1 vacuum 12 pk"])).to_list()
        ['\x011/2 in\x01 pvc', '2in1 vacuum \x0112 pk\x01']
    """
    return _protected(texts).str.replace_all(_SIZE, f"{MARK}${{0}}{MARK}")


@lru_cache(maxsize=1 << 16)
def canonical(size: str) -> tuple[str, ...]:
    """What a size says, in one spelling: each amount with its unit, each two neighbours of an `x`.

    A number without a unit has that of the next one which has; feet and yards are inches, pounds
    ounces, and so on.

    Examples:
        >>> canonical("1-1/2 ft."), canonical("set of 3"), canonical("12 per pack")
        (('18 inch',), ('3 pack',), ('12 pack',))
        >>> canonical("4x8 ft"), canonical("2x4")
        (('48 inch', '96 inch', '4 x 8'), ('2 x 4',))
    """
    found = _LENGTH_IN.findall(size)
    amounts = [value(number) for number, _ in found]
    units = _units([unit for _, unit in found])
    said = [_said(amount, unit) for amount, unit in zip(amounts, units, strict=True) if unit]
    pairs = [f"{_spell(a)} x {_spell(b)}" for a, b in pairwise(amounts)]
    return tuple(dict.fromkeys(said + pairs))


def _units(written: list[str]) -> list[str]:
    if len(written) == 1:
        return [_ALIASES.get(written[0], "pack")]
    units = ["" if unit in _SIDES else _ALIASES.get(unit, "") for unit in written]
    for at in range(len(units) - 2, -1, -1):
        units[at] = units[at] or units[at + 1]
    return units


def _protected(texts: pl.Series) -> pl.Series:
    """Keep "2 in 1" from being two inches."""
    return texts.str.replace_all(r"(^|[^/.\d])(\d)[\s-]in[\s-]1\b", "${1}${2}in1")


def _said(amount: float, unit: str) -> str:
    times, unit = _SAME.get(unit, (1.0, unit))
    return f"{_spell(amount * times)} {unit}"


def _spell(amount: float) -> str:
    return f"{amount:.3f}".rstrip("0").rstrip(".")
