"""Notebooks that tell one story each; `make` runs them."""
