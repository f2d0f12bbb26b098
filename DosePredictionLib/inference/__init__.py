"""Running networks: device and precision, memory fallbacks, progress, the predictor."""
