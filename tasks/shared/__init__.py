"""What several task families use: drawing and tokenising text, next-token tasks, years."""
