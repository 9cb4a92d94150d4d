"""The models that come with the package, and scripts: one trains a model, one downloads another."""
