"""One confidence for all judges and grades: as strict as the money allows, whatever is right.

Confidences are calibrated grade by grade, so that one of them asks the same of every grade, and few
labels cannot mislead what they do not choose. Random deals of the held-out queries of three
catalogs with human grades (24 of 67 and 76 queries, 12 of 490, a quarter of them to tune), four
judges, the stacked one last; right, kappa and Spearman of unseen labels, and their cost as a share
of asking the stacked judge about everything, of which half could be spent:

                           chorus                   crowdflower              homedepot
    the stacked judge      .776 .677 .753  1.00     .621 .451 .572  1.00     .473 .362 .531  1.00
    one confidence         .780 .688 .749   .45     .623 .452 .561   .52     .469 .352 .513   .49
    the default            .777 .687 .748   .29     .621 .447 .559   .50     .469 .359 .518   .45
    best as measured       .777 .688 .741   .17     .616 .424 .539   .28     .468 .351 .516   .38

(Homedepot's one confidence in 24 deals.) The default takes what agreed best as measured where that
leads by more than chance, which pays where judges err apart: of three simulated ones that do, 300
queries to tune, half the cost of the largest, .781 are right in place of .737. What no judge is
sure of is settled by the last: a vote of all had a kappa .035 lower on crowdflower and .011 on
homedepot, and .001 higher on chorus.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from trivium.domain.cascade import NEVER
from trivium.domain.guarantee import Floats, Ints, Replies
from trivium.foundation.tables import GRADES


def spent_on(first: Ints, costs: Floats) -> Floats:
    """What each pair costs, (pairs,), from the judge that was sure of it (`Replies.settle`)."""
    return np.asarray(np.cumsum(costs)[np.minimum(first, len(costs) - 1)])


def one_confidence(confidence: float, judges: int) -> Floats:
    """Thresholds of judges that need the same confidence, but for the last, which settles the rest.

    Returns:
        Shape (judges, 5).
    """
    levels = np.full((judges, len(GRADES)), confidence)
    levels[-1] = 0.0
    return levels


def strictest(replies: Replies, costs: Floats, most: float) -> Floats:
    """The strictest thresholds of `one_confidence` that are affordable, else the laxest.

    Args:
        replies: What the judges say of pairs.
        costs: What each judge costs for a pair, (judges,).
        most: What a pair may cost on average, in the same unit.

    Returns:
        Thresholds, (judges, 5).
    """
    judges = len(costs)

    def cost(confidence: float) -> float:
        _, first = replies.settle(one_confidence(confidence, judges), "confidence")
        return float(spent_on(first, costs).mean()) if len(first) else 0.0

    known = replies.confidence[:-1]
    tried = np.unique(np.append(known[~np.isnan(known)], (0.0, NEVER))).tolist()  # cost rises
    at = bisect_right(tried, most, key=cost)
    return one_confidence(tried[max(at - 1, 0)], judges)
