"""The panel of the DosePrediction module: what it shows (plain Python) and the Qt side of it.

`apply_state`, `corrections`, `finding_rows`, `freshness`, `model_card`, `structure_rows` and
`result_tables` need neither Qt nor a scene. Nothing here imports torch.
"""
