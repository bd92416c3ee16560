"""The language of the level rules: SQL conditions over what the channels found for a pair.

A rule is made of the names of `rule_names`, numbers, operators and the words of `WORDS`; polars
parses it. Nothing else passes, so a rule reads one pair at a time and no file, table or function.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trivium.foundation.errors import ConfigError, Fault, TriviumError
from trivium.foundation.examples_config import RulesConfig

if TYPE_CHECKING:
    import polars as pl

WORDS = (
    *("and", "or", "not", "is", "null", "true", "false", "between", "in"),
    *("case", "when", "then", "else", "end", "coalesce", "least", "greatest"),
)
"""What a rule may say besides names, in small letters or capitals."""

LONGEST = 2000
"""Characters of a rule; ours, far more than a rule needs and less than the parser can bear."""

_TOKEN = re.compile(
    r"(?P<word>[^\W\d]\w*)|\d{1,9}(?:\.\d{1,9})?(?![\d.])|<=|>=|<>|!=|[-+*=<>(),]|\s+"
)
_REFUSED = re.compile(r"--|\(\s*\)")


def rule_names(channels: Sequence[str]) -> dict[str, Any]:
    """What a rule can name, with its polars type.

    Args:
        channels: Names of the channels.
    """
    import polars as pl

    names: dict[str, Any] = {}
    for channel in channels:
        names |= {f"rank_{channel}": pl.Int64, f"score_{channel}": pl.Float32}
    counts = ("found", "lexical", "dense", "best", "best_lexical", "best_dense", "channels")
    depths = ("hard_positive_depth", "hard_negative_depth", "retrieved_depth")
    names |= dict.fromkeys((*counts, *depths), pl.Int64)
    return names | dict.fromkeys(("tfidf", "tfidf_low", "tfidf_high"), pl.Float32)


def parse_rule(rule: str, names: Mapping[str, Any], where: str) -> pl.Expr:
    """Make an expression of a rule.

    Args:
        rule: Such as `best_lexical <= 50 AND dense = 0`.
        names: What it can name, with the polars types: `rule_names`.
        where: The setting, for the error.

    Returns:
        A Boolean expression over columns of these names.

    Raises:
        ConfigError: If the rule says anything else, or is not a condition.

    Example:
        >>> parse_rule("found = channels", rule_names(["bm25"]), "rule").meta.root_names()
        ['found', 'channels']
    """
    import polars as pl

    wrong = _wrong_words(rule, names)
    if wrong:
        raise _faulty(rule, names, where, *wrong)
    try:
        parsed = pl.sql_expr(rule)
        tried = pl.DataFrame({name: [None, 1] for name in names}, schema=dict(names))
        made = tried.with_columns(_rule=parsed)
    except pl.exceptions.PolarsError as error:
        reason = (str(error).splitlines() or ["no expression"])[0]
        raise _faulty(rule, names, where, reason, "correct the rule") from None
    if not parsed.meta.undo_aliases().meta.eq(parsed):
        named = parsed.meta.output_name()
        raise _faulty(rule, names, where, f"'{named}' without an operator", "join it by AND or OR")
    if made["_rule"].dtype != pl.Boolean:
        got, fix = f"a value of type {made['_rule'].dtype}", "compare it, such as found >= 2"
        raise _faulty(rule, names, where, got, fix)
    return parsed


def check_rules(rules: RulesConfig, channels: Sequence[str], where: str) -> None:
    """Check the rules of all levels.

    Args:
        rules: The rules.
        channels: Names of the configured channels.
        where: The configuration's file, for the error.

    Raises:
        ConfigError: With a fault for each rule that is wrong.
    """
    names, faults = rule_names(channels), list[Fault]()
    for level, rule in rules:
        try:
            parse_rule(rule, names, f"{where}: examples.rules.{level}")
        except TriviumError as error:
            faults += error.faults
    if faults:
        raise ConfigError(*faults)


def _wrong_words(rule: str, names: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first thing in a rule that is not of its language, and what to do about it."""
    if len(rule) > LONGEST:
        return f"{len(rule)} characters, over {LONGEST}", "shorten the rule"
    if refused := _REFUSED.search(rule):
        return repr(refused[0]), "leave it out"
    at = 0
    while at < len(rule):
        token = _TOKEN.match(rule, at)
        if token is None:
            return repr(rule[at : at + 20]), "use names, numbers of nine digits, and + - * = < >"
        word = token["word"]
        if word and word not in names and word.lower() not in WORDS:
            called = rule[token.end() :].lstrip().startswith("(")
            return _unknown(word, names, called=called)
        at = token.end()
    return None


def _unknown(word: str, names: Mapping[str, Any], *, called: bool) -> tuple[str, str]:
    near = difflib.get_close_matches(word, [*names, *WORDS], n=1, cutoff=0.75)
    fix = f"did you mean '{near[0]}'?" if near else "use these names alone"
    prefix, _, channel = word.partition("_")
    if called:
        return f"the function '{word}'", "state the rule over one pair, without it"
    if prefix in {"rank", "score"} and channel:
        return f"'{word}', of a channel '{channel}' that is not among mine.channels,", fix
    return f"'{word}'", fix


def _faulty(rule: str, names: Mapping[str, Any], where: str, got: str, fix: str) -> TriviumError:
    shown = rule if len(rule) <= 200 else f"{rule[:200]}..."
    words = " ".join(WORDS).upper()
    return ConfigError.of(
        where,
        got=f"{got} in {shown!r}",
        expected=f"a condition over {', '.join(sorted(names))}; in SQL's words {words}",
        fix=fix,
    )
