"""User sequences -> token streams."""
