"""The first stage of `openkbp_no_beams`: as `openkbp_beams_coarse`, without the beams."""

from __future__ import annotations

from dataclasses import replace

from .openkbp_beams_coarse import recipe as with_beams

__all__ = ["recipe"]

recipe = replace(with_beams, encoding=replace(with_beams.encoding, further={}))
