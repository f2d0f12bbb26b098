"""The panel's package lies beside the Slicer module, not in the library."""

from __future__ import annotations

import sys

from support import ROOT

sys.path.insert(0, str(ROOT / "DosePrediction"))
