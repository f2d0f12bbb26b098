"""Recipes: one `TrainingConfig` a file, under the name `recipe`."""
