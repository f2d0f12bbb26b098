"""What the panel knows and decides: `reduce(state, event) -> (state, effects)`.

| module | holds |
|---|---|
| `state.py` | the state: frozen dataclasses of plain values |
| `events.py` | what can happen: a person's actions, the scene's changes, answers of the executor |
| `effects.py` | what is to be done about it: plain data, carried out by an executor |
| `reducer.py` | `reduce`, and the registry of what handles which event |
| `choosing.py`, `reading.py`, `starting.py`, `running.py` | handlers up to a result |
| `results.py`, `looking.py`, `scenes.py`, `setup.py` | handlers of results, scenes, installation |
| `beams.py`, `beam_marks.py`, `wishes.py`, `partners.py` | what a choice means for model and case |
| `naming.py`, `levels.py`, `derived.py` | rules that they share |
| `store.py` | the loop: an event in, effects carried out, the new state drawn |

Nothing here imports Qt, Slicer or torch, reads a clock or a file: everything comes with an event.
"""
