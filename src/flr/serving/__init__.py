"""A trained recommender behind HTTP: contract, engine, doors; what a browser sees goes into `pages/`."""
