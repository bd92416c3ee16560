"""Annotate: a cascade of calibrated judges grades the candidates that some level could use.

In: candidates, items and queries with the text that judges read, fitted judges and what they said
of held-out pairs. Out: labels, a grade with a calibrated confidence, who settled it, what every
judge asked said of it, and its cost; and tables that say how far to trust them.

`cascading` calibrates the judges and finds their thresholds, `selection` chooses the candidates,
`labelling` asks the judges, `buying` counts what that brought, `findings` measures the judges
against humans.
"""
