"""The report page: one file that shows a folder of results and needs no network."""
