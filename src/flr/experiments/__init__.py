"""Reports of what runs showed."""
