"""Raw files -> interactions -> user sequences, audited, split, and kept as a folder of Parquet tables."""
