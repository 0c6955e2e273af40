"""Why an item is recommended, and what each factor stands for."""
