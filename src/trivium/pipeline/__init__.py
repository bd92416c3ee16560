"""The stages in order, in a workspace: what is planned, done, stale, resumed."""
