"""How x_t is formed, what the network learns, and how it is integrated back. torch only; pure functions."""

from goku_core.transport.adaptive import Solved, integrate_adaptive
from goku_core.transport.ddpm import DDPM, ancestral, ddim
from goku_core.transport.guidance import guided, guided_by_text_and_image, rescaled
from goku_core.transport.rectified_flow import RectifiedFlow
from goku_core.transport.sampling import PRESETS, SamplingSettings, sample
from goku_core.transport.solvers import SOLVERS, integrate, time_grid
from goku_core.transport.timesteps import shift_by_law, shift_of_size, shift_time, timestep_of_uniform

__all__ = [
    "DDPM",
    "PRESETS",
    "SOLVERS",
    "RectifiedFlow",
    "SamplingSettings",
    "Solved",
    "ancestral",
    "ddim",
    "guided",
    "guided_by_text_and_image",
    "integrate",
    "integrate_adaptive",
    "rescaled",
    "sample",
    "shift_by_law",
    "shift_of_size",
    "shift_time",
    "time_grid",
    "timestep_of_uniform",
]
