"""What the factors are, and what they do: instruments of the evidence study."""
