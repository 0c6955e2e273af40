"""Ranks, metrics and the evaluation of anything that scores the whole catalogue."""
