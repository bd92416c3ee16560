"""The stages of the pipeline, each a function from tables to tables; none imports another."""
