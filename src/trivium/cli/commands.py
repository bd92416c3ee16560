"""All commands: those of the stages, and the groups beside them."""

from __future__ import annotations

from trivium.cli.app import app
from trivium.cli.clicks import EXAMPLES as CLICKS_EXAMPLES
from trivium.cli.clicks import clicks
from trivium.cli.explain import EXAMPLES as EXPLAIN_EXAMPLES
from trivium.cli.explain import explain
from trivium.cli.export import EXAMPLES as EXPORT_EXAMPLES
from trivium.cli.export import export
from trivium.cli.judge import cascade_app, judge_app
from trivium.cli.overlap import EXAMPLES, overlap
from trivium.cli.queries import EXAMPLES as QUERIES_EXAMPLES
from trivium.cli.queries import queries
from trivium.cli.seed import seed_app
from trivium.cli.train import ABLATE_EXAMPLES, TRAIN_EXAMPLES, ablate, train

app.add_typer(seed_app, name="seed")
app.add_typer(judge_app, name="judge")
app.add_typer(cascade_app, name="cascade")
app.command(epilog=EXAMPLES)(overlap)
app.command(epilog=EXPLAIN_EXAMPLES)(explain)
app.command(epilog=QUERIES_EXAMPLES)(queries)
app.command(epilog=EXPORT_EXAMPLES)(export)
app.command(epilog=CLICKS_EXAMPLES)(clicks)
app.command(epilog=TRAIN_EXAMPLES)(train)
app.command(epilog=ABLATE_EXAMPLES)(ablate)

__all__ = ["app"]
