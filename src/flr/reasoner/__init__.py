"""Hidden states -> thought."""
