"""Thought -> log-probabilities over the catalogue -> ranking."""
