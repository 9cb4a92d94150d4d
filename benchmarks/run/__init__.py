"""A cell becomes a record: models are loaded, methods run, circuits evaluated."""
