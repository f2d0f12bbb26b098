"""Network architectures, one a file, in plain torch."""

from .res_unet3d import ResUNet3D
from .two_stage import TwoStageDose, TwoStageNetwork
from .unet3d import UNet3D

__all__ = ["ResUNet3D", "TwoStageDose", "TwoStageNetwork", "UNet3D"]
