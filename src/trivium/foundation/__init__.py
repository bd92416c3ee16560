"""What every room stands on: tables, workspace, configuration, errors, console."""
