"""Reference values, run again and compared."""
