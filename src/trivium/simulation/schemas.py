"""What a product type is: its words, its attributes, and how sizes and packs are written."""

from __future__ import annotations

from dataclasses import dataclass

UNIT_FORMS: dict[str, tuple[str, ...]] = {
    "inch": ("{} Inch", '{}"', "{}-Inch", "{} in"),
    "foot": ("{} ft", "{} Feet", "{}ft", "{} Foot"),
    "ounce": ("{} oz", "{}oz", "{} Ounce", "{} fl oz"),
    "pound": ("{} lb", "{}lb", "{} lbs", "{} Pound"),
    "volt": ("{}V", "{} Volt", "{}-Volt", "{} V"),
    "watt": ("{}W", "{} Watt", "{}-Watt", "{} W"),
    "cup": ("{} Cup", "{}-Cup", "{} Cups", "{}c"),
    "quart": ("{} Quart", "{} qt", "{}qt", "{}-Quart"),
    "seat": ("{} Seater", "{}-Seater", "{} Seat", "{} Person"),
    "shoe": ("Size {}", "US {}", "Sz {}", "{} US"),
    "name": ("{}", "{} Size", "Size {}", "{}"),
    "kind": ("{}", "{}", "{} Size", "{}"),
}
PACK_FORMS = ("{} Pack", "Pack of {}", "{}-Pack", "{} Count")
DEVICE_FORMS = ("for {}", "Compatible with {}", "Fits {}", "for {}")

COLOUR_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("black", "jet black"),
    ("white", "ivory"),
    ("grey", "charcoal", "silver"),
    ("blue", "navy", "teal"),
    ("red", "burgundy"),
    ("green", "olive"),
    ("beige", "tan", "cream"),
    ("brown", "walnut"),
    ("pink", "rose"),
    ("yellow", "mustard"),
    ("purple", "lavender"),
    ("clear",),
)

MARKETING = (
    "Premium",
    "New",
    "Heavy Duty",
    "Upgraded",
    "Deluxe",
    "Best Seller",
    "2026 Edition",
    "Ultra",
    "Classic",
    "Professional",
    "Everyday",
    "Top Rated",
)

# Devices that accessories fit: (name in full, the short name people type).
DEVICES: dict[str, tuple[tuple[str, str], ...]] = {
    "phone": (
        ("Apple iPhone 13", "iPhone 13"),
        ("Apple iPhone 14", "iPhone 14"),
        ("Apple iPhone 14 Pro", "iPhone 14 Pro"),
        ("Apple iPhone 15", "iPhone 15"),
        ("Apple iPhone 15 Pro Max", "iPhone 15 Pro Max"),
        ("Samsung Galaxy S22", "Galaxy S22"),
        ("Samsung Galaxy S23", "Galaxy S23"),
        ("Samsung Galaxy S23 Ultra", "S23 Ultra"),
        ("Samsung Galaxy A54", "Galaxy A54"),
        ("Google Pixel 7", "Pixel 7"),
        ("Google Pixel 7a", "Pixel 7a"),
        ("Google Pixel 8 Pro", "Pixel 8 Pro"),
        ("Motorola Moto G Power", "Moto G Power"),
        ("OnePlus Nord N30", "Nord N30"),
    ),
    "printer": (
        ("HP LaserJet Pro M404n", "LaserJet M404n"),
        ("HP LaserJet Pro M15w", "LaserJet M15w"),
        ("HP Color LaserJet M255dw", "HP M255dw"),
        ("Brother HL-L2350DW", "HL-L2350DW"),
        ("Brother HL-L2370DW", "HL-L2370DW"),
        ("Brother MFC-L2750DW", "MFC-L2750DW"),
        ("Canon imageCLASS MF455dw", "Canon MF455dw"),
        ("Canon imageCLASS LBP6030w", "LBP6030w"),
        ("Xerox B210", "Xerox B210"),
        ("Samsung Xpress M2020W", "Xpress M2020W"),
    ),
    "car": (
        ("Toyota Corolla 2018-2022", "Corolla 2020"),
        ("Toyota Camry 2018-2023", "Camry 2021"),
        ("Toyota RAV4 2019-2024", "RAV4 2022"),
        ("Honda Civic 2016-2021", "Civic 2019"),
        ("Honda CR-V 2017-2022", "CRV 2018"),
        ("Ford F-150 2015-2020", "F150 2017"),
        ("Ford Escape 2020-2024", "Escape 2021"),
        ("Chevrolet Silverado 1500 2019-2024", "Silverado 2020"),
        ("Nissan Rogue 2014-2020", "Rogue 2016"),
        ("Subaru Outback 2020-2024", "Outback 2022"),
        ("Volkswagen Golf 2015-2021", "VW Golf 2018"),
        ("Jeep Wrangler 2018-2024", "Wrangler 2019"),
    ),
    "vacuum": (
        ("Dyson V8", "Dyson V8"),
        ("Dyson V10 Cyclone", "Dyson V10"),
        ("Dyson V11 Torque Drive", "Dyson V11"),
        ("Shark Rocket IX141", "Shark IX141"),
        ("Shark Vertex IZ462H", "Shark IZ462H"),
        ("Bissell ICONpet 2746A", "Bissell 2746A"),
        ("Hoover ONEPWR BH53310", "Hoover BH53310"),
        ("Tineco Pure One S11", "Tineco S11"),
    ),
    "watch": (
        ("Apple Watch Series 8 41mm", "Apple Watch 41mm"),
        ("Apple Watch Series 8 45mm", "Apple Watch 45mm"),
        ("Samsung Galaxy Watch 5", "Galaxy Watch 5"),
        ("Samsung Galaxy Watch 6 Classic", "Galaxy Watch 6 Classic"),
        ("Fitbit Versa 3", "Versa 3"),
        ("Fitbit Charge 5", "Charge 5"),
        ("Garmin Forerunner 245", "Forerunner 245"),
        ("Garmin Fenix 7", "Fenix 7"),
    ),
}


@dataclass(frozen=True)
class Sizes:
    """The sizes that a product type comes in.

    Attributes:
        unit: A key of `UNIT_FORMS`.
        values: The sizes as written before or after the unit.
        ordered: Whether neighbours in the list are nearly the same size; batteries' are not.
    """

    unit: str
    values: tuple[str, ...]
    ordered: bool = True


@dataclass(frozen=True)
class ProductType:
    """One product type and everything its items and queries are made of.

    Attributes:
        name: Its name in the items table.
        nouns: What titles call it, the usual word first.
        synonyms: What shoppers call it and titles (nearly) never do.
        brands: Its common brands, the largest first.
        related: Names of sibling, accessory and complement types.
        features: Phrases that titles add and no query asks for.
        colours: Its colours, members of `COLOUR_FAMILIES`.
        materials: Its materials.
        sizes: Its sizes.
        packs: Pack counts beyond the single piece.
        device: The key of `DEVICES` that its items must fit.
        coded: Whether its items have model numbers.
    """

    name: str
    nouns: tuple[str, ...]
    synonyms: tuple[str, ...]
    brands: tuple[str, ...]
    related: tuple[str, ...]
    features: tuple[str, ...]
    colours: tuple[str, ...] = ()
    materials: tuple[str, ...] = ()
    sizes: Sizes | None = None
    packs: tuple[str, ...] = ()
    device: str | None = None
    coded: bool = False
