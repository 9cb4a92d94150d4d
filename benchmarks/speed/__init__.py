"""What a step, a search and a curve cost."""
