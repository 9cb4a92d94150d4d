"""What is to be run: a suite in TOML becomes cells, searches and crossings."""
