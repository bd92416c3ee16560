"""The true grade of any pair of query and item: a fixed rule over what is asked and offered.

A query asks for a product type and, possibly, for a brand, a colour, a material, a size, a pack
count, a device to fit and a model number. An item offers each of these, or does not state it.
The grade is settled by the first line that applies:

0. embarrassing: the types are neither the same nor related.
1. bad: the types are related (sibling, accessory, complement), or they are the same and a device
   is asked for and the item fits a different one.
2. fair, a substitute: the type is right, and something asked for is *missed* or two or more
   things are *near*.
3. good: the type is right, nothing is missed, and exactly one thing is near.
4. excellent: the type is right and everything asked for is met.

What is asked for is met by the same value. It is near, not missed, if

- the brand, colour, material, size or pack count is not stated by the item;
- the colour is another of the same family (navy for blue);
- the size is the next one up or down, in a type whose sizes have an order;
- the pack count is another one;
- the model number differs in its last letter only: another variant of the same product line.

Everything else is missed, a device or a model number that the item does not state among it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trivium.simulation.codes import Codes
from trivium.simulation.vocabulary import Ints, Vocabulary

Grades = NDArray[np.int8]
_Masks = NDArray[np.bool_]


def grade_pairs(asked: Codes, offered: Codes, vocabulary: Vocabulary) -> Grades:
    """True grades of pairs, by the rule in this module's docstring.

    Args:
        asked: Intents of the queries, one row a pair, or a single row for all pairs.
        offered: The items, one row a pair.
        vocabulary: What the codes stand for.

    Returns:
        Grades 0-4, int8 of shape (pairs,).
    """
    near, missed = _near_and_missed(asked, offered, vocabulary)
    same = asked.kind == offered.kind
    misfit = (asked.device >= 0) & (offered.device >= 0) & (asked.device != offered.device)
    related = vocabulary.related[asked.kind, offered.kind]
    grades: Grades = np.select(
        [~same & ~related, ~same | misfit, missed | (near > 1), near == 1], [0, 1, 2, 3], default=4
    ).astype(np.int8)
    return grades


def _near_and_missed(asked: Codes, offered: Codes, vocabulary: Vocabulary) -> tuple[Ints, _Masks]:
    """Count what is near and flag what is missed; means nothing where the types differ."""
    pairs = max(len(asked), len(offered))
    near = np.zeros(pairs, dtype=np.int32)
    missed = np.zeros(pairs, dtype=np.bool_)
    family, ordered = vocabulary.colour_family, vocabulary.size_ordered
    next_size = (np.abs(asked.size - offered.size) == 1) & ordered[asked.size]
    rules: tuple[tuple[Ints, Ints, _Masks | bool], ...] = (
        (asked.brand, offered.brand, offered.brand < 0),
        (asked.material, offered.material, offered.material < 0),
        (
            asked.colour,
            offered.colour,
            (offered.colour < 0) | (family[asked.colour] == family[offered.colour]),
        ),
        (asked.size, offered.size, (offered.size < 0) | next_size),
        (asked.pack, offered.pack, True),
        (asked.device, offered.device, False),
        (
            asked.series * 26 + asked.variant,
            offered.series * 26 + offered.variant,
            asked.series == offered.series,
        ),
    )
    for wanted, given, close in rules:
        unmet = (wanted >= 0) & (wanted != given)
        near += unmet & close
        missed |= unmet & ~np.asarray(close)
    return near, missed


def type_blocks(items: Codes, types: int) -> list[Ints]:
    """Places of the items of each type, ascending."""
    order = np.argsort(items.kind, kind="stable").astype(np.int32)
    bounds = np.searchsorted(items.kind[order], np.arange(types + 1))
    return [order[start:stop] for start, stop in pairwise(bounds)]


def true_grades(
    intent: Codes, items: Codes, blocks: list[Ints], vocabulary: Vocabulary
) -> tuple[Ints, Grades]:
    """Every item that one query's intent grades 1 or more.

    Only the blocks of the query's own and related types are looked at: all others are grade 0.

    Args:
        intent: A single row.
        items: The whole catalog.
        blocks: Its `type_blocks`.
        vocabulary: What the codes stand for.

    Returns:
        Places of the items, ascending, and their grades.
    """
    kind = int(intent.kind[0])
    kinds = [kind, *np.flatnonzero(vocabulary.related[kind])]
    rows = np.sort(np.concatenate([blocks[k] for k in kinds]))
    return rows, grade_pairs(intent, items.take(rows), vocabulary)
