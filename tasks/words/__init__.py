"""The sentences and words that prompts are made of."""
