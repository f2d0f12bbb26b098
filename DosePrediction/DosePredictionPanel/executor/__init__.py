"""Carries out the effects of the reducer: in the scene, in the worker, with the clock.

| module | holds |
|---|---|
| `context.py` | the executor, what it is given, and the registry of what carries out which effect |
| `basics.py` | timers, parameters, installation |
| `inputs.py` | nodes, segments, reading and checking |
| `runs.py` | predictions |
| `plan.py` | whether a plan could give a dose |
| `contours.py` | organs that are found, and what contours cost |
| `results.py` | results on the slices, goals, removal |
| `looking.py` | places, the mouse, structures, isodose levels |
| `restoring.py` | results that came with a scene |
| `files.py` | dialogs and files |
| `scene_watch.py` | the scene's events on their way to the store |
| `scene_facts.py` | nodes as plain values |

Needs a scene but no Qt: what needs it is given (`context.Ports`).
"""
