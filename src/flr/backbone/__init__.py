"""Token streams -> hidden states."""
