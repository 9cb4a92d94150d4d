"""How things look: colours, axes, circuits as pictures."""
