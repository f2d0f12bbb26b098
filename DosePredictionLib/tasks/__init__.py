"""What networks are trained for: one kind of prediction a file, and its line in the registry.

A task says how a network of it is trained, run over a volume and judged, and which named outputs
come of it (`task.Task`). Predictor, trainer, worker, report and scene speak of tasks and outputs
alone. `registry.py` needs no torch.
"""
