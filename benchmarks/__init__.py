"""The benchmark: suites of cells, their runs and results, the report and the command line."""
