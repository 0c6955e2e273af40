"""Recommenders over item identities: networks, their training batches and their training."""
