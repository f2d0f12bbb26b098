"""The panel of the DosePrediction module.

| package or module | holds | needs |
|---|---|---|
| `flow/` | the state and what is decided: `reduce(state, event) -> (state, effects)` | nothing |
| `views.py` and the modules that it uses | what each section shows | nothing |
| `executor/` | carries out effects | a scene |
| `services.py`, `prediction_run.py`, `prepared.py` | the worker's requests, results | a scene |
| `sections/` | widgets that draw a state, one module and one `.ui` each | Qt |
| `panel.py`, `parameter_binding.py`, `worker_process.py`, `qt_*.py` | the rest of Qt | Qt |

Nothing here imports torch.
"""
