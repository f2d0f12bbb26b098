"""Predict many cases in Slicer without a window.

Slicer --no-main-window --python-script slicer_batch.py --cases DIR --output DIR

This file lies in a folder of its own because Slicer puts a script's folder first on `sys.path`.
"""

import sys
import traceback
from pathlib import Path

import slicer

try:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from DosePredictionLib.scene.batch import main

    code = main(sys.argv[1:])
except BaseException:
    # Slicer would stay up, or end with 0.
    traceback.print_exc()
    code = 2
slicer.util.exit(code)
