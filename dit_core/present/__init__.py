"""Present: tables of records as figures, cards and escaped HTML. It runs no model, and importing it loads no torch."""
