"""Writing a simulated marketplace to a folder."""

from __future__ import annotations

from pathlib import Path

from trivium.foundation.errors import WorkspaceError
from trivium.simulation.marketplace import Marketplace

_README = """# A simulated marketplace

Everything in this folder is simulated: no item, query, rating or rater in it is real. Names of
phones, cars, printers, vacuums and watches only say what a simulated accessory fits.

| file | what |
|---|---|
| items.parquet | the catalog; null where an item does not state an attribute |
| queries.parquet | distinct queries, how often each is asked, and its segment |
| judgments.parquet | noisy ratings 0-4 of a pool of items for each judged query |
| truth.parquet | every true grade of 1 or more of the judged queries; an absent pair is grade 0 |
| synonyms.txt | a part of the synonyms, as a shop would have them (Solr format) |

Titles leave out some of what the other fields of items.parquet state.

The true grade is a fixed rule over what a query asks for and an item offers; it is written down in
the docstring of `trivium.simulation.grading`. How hard the marketplace is to search follows from
counts that are stated in the code; they were set once and not tuned to any result.

## Parameters
{parameters}

## Confusion matrix of the raters
Every rating is drawn independently. Rows are true grades, columns given grades.

| | 0 | 1 | 2 | 3 | 4 |
|---|---|---|---|---|---|
{confusion}
"""


def write(market: Marketplace, folder: Path, *, overwrite: bool = False) -> None:
    """Write a marketplace as Parquet files, a synonyms file and a README.

    Args:
        market: What to write.
        folder: Where; made if absent.
        overwrite: Replace files of these names in a folder that is not empty.

    Raises:
        WorkspaceError: If the folder is not empty and may not be overwritten, or is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise WorkspaceError.of(
            str(folder),
            got="a file" if folder.is_file() else "a folder that is not empty",
            expected="an empty or absent folder",
            fix="name another folder, or overwrite",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("items", "queries", "judgments", "truth"):
        getattr(market, name).write_parquet(folder / f"{name}.parquet")
    (folder / "synonyms.txt").write_text(
        "".join(f"{line}\n" for line in ("# simulated", *market.synonyms)), encoding="utf-8"
    )
    (folder / "README.md").write_text(_readme(market), encoding="utf-8")


def _readme(market: Marketplace) -> str:
    rows = [
        f"| **{grade}** | " + " | ".join(f"{share:.3f}" for share in shares) + " |"
        for grade, shares in enumerate(market.confusion)
    ]
    parameters = [f"- {name}: {value}" for name, value in market.parameters.items()]
    return _README.format(parameters="\n".join(parameters), confusion="\n".join(rows))
