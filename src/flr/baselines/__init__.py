"""Recommenders to compare with; each satisfies `flr.evaluation.protocol.Scorer`."""
