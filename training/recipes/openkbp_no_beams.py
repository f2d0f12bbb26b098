"""What `openkbp_beams` is without beams: the same cascade that sees its coarse dose alone.

For the comparison at equal budget: the same steps, crops and networks.
"""

from __future__ import annotations

from dataclasses import replace

from .openkbp_beams import recipe as with_beams
from .openkbp_no_beams_coarse import recipe as coarse

__all__ = ["recipe"]

recipe = replace(
    with_beams,
    encoding=coarse.encoding,
    network=replace(with_beams.network, options={**with_beams.network.options, "mimics": False}),
)
