"""Model folders: manifest, weights, import of published checkpoints, ensembles."""
