"""Training a recommender on several devices, machines and parameter servers."""
