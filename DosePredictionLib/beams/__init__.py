"""Beams of photons: how they stand, what fluence gives as dose, and which fluence a dose needs."""
