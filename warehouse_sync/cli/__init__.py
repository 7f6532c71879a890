"""The command line: one file per group of verbs, and the only place that prints and exits."""
