"""The method as pure functions: arrays and tables in, arrays and tables out."""
