"""From a dose to a plan that a machine could deliver, and whether it could."""
