"""Colors that keep their order, their meaning and their contrast for every reader."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, to_hex, to_rgb
from numpy.typing import NDArray

__all__ = [
    "DARK_SURFACE",
    "DIFFERENCE_MAP",
    "DOSE_MAP",
    "LIGHT_SURFACE",
    "LINE_CONTRAST",
    "TEXT_CONTRAST",
    "WASH_OPACITY",
    "bar_map",
    "difference_wash",
    "dose_wash",
    "readable_on",
    "safe_color",
]

LIGHT_SURFACE = "#ffffff"
DARK_SURFACE = "#1a1e24"

# Lightness rises all the way, for every kind of color vision: brighter is more dose.
DOSE_MAP: Colormap = matplotlib.colormaps["plasma"]

# Blue and orange stay apart in all common color vision deficiencies. The middle is dark, not
# white, because zero must vanish into the CT below it.
DIFFERENCE_MAP: Colormap = LinearSegmentedColormap.from_list(
    "difference",
    [
        (0.0, "#b5dcff"),
        (0.2, "#4da3f5"),
        (0.42, "#14508c"),
        (0.5, "#16181b"),
        (0.58, "#8a4408"),
        (0.8, "#f08a24"),
        (1.0, "#ffdfae"),
    ],
)

WASH_OPACITY = 0.64
_TISSUE = 0.5  # gray of soft tissue under the wash

_UNKNOWN = "#9aa0a6"
LINE_CONTRAST = 3.0  # WCAG 2.2, 1.4.11: graphical objects
TEXT_CONTRAST = 4.5  # 1.4.3


def dose_wash(dose_gy: NDArray, high_gy: float) -> NDArray[np.float32]:
    """RGBA `(row, column, 4)` of a dose; transparent below 5 % of `high_gy`, fading in to 15 %."""
    share = np.clip(dose_gy / high_gy, 0.0, 1.0)
    rgba = DOSE_MAP(share).astype(np.float32)
    rgba[..., 3] = WASH_OPACITY * np.clip((share - 0.05) / 0.10, 0.0, 1.0)
    return rgba


def difference_wash(difference_gy: NDArray, range_gy: float) -> NDArray[np.float32]:
    """RGBA `(row, column, 4)` of a difference; zero is transparent, ±`range_gy` saturates."""
    share = np.clip(difference_gy / range_gy, -1.0, 1.0)
    rgba = DIFFERENCE_MAP(0.5 + 0.5 * share).astype(np.float32)
    rgba[..., 3] = 0.85 * np.clip(np.abs(share) / 0.25, 0.0, 1.0)
    return rgba


def bar_map(colors: Colormap, opacity: float) -> Colormap:
    """The colors as a wash shows them over soft tissue: a color bar must look like its picture."""
    rgb = colors(np.linspace(0, 1, 256))[:, :3]
    return ListedColormap(opacity * rgb + (1 - opacity) * _TISSUE)


def safe_color(color: str) -> str:
    """The color as "#rrggbb", or gray when it is none: colors come from files."""
    try:
        return to_hex(color)
    except (ValueError, TypeError):
        return _UNKNOWN


def readable_on(color: str, surface: str, contrast: float = LINE_CONTRAST) -> str:
    """The color, mixed with black or white until it stands out from the surface."""
    rgb, ground = np.array(to_rgb(color)), _luminance(np.array(to_rgb(surface)))
    end = np.zeros(3) if ground > 0.4 else np.ones(3)
    for share in np.linspace(0.0, 1.0, 41):
        mixed = (1 - share) * rgb + share * end
        lighter, darker = sorted((_luminance(mixed), ground), reverse=True)
        if (lighter + 0.05) / (darker + 0.05) >= contrast:
            break
    return to_hex((float(mixed[0]), float(mixed[1]), float(mixed[2])))


def _luminance(rgb: NDArray) -> float:
    """Relative luminance by WCAG 2.2."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))
