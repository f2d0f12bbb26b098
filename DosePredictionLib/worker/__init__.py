"""Prediction in a process of its own, so that a window never waits and a crash costs nothing.

The process (`python -m DosePredictionLib.worker`) speaks JSON lines, stays warm between runs and
ends with its parent. Nothing that a client imports from here imports torch.

| file | holds |
|---|---|
| `messages.py` | the protocol: typed messages, one JSON object a line |
| `exchange.py` | cases and predictions as raw arrays in a folder |
| `session.py` | the client's side of the protocol, for any transport |
| `launch.py` | interpreter, environment and command line of the worker |
| `tree.py` | a process and all its children, to be ended together |
| `client.py` | a blocking client over pipes, without an event loop |
| `server.py`, `__main__.py` | the worker itself |
"""
