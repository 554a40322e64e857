"""The likelihood of images: ELBO, importance-weighted paths, probability flow, and baselines fitted to the data."""
