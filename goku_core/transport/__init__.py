"""How x_t is formed, what the network learns, and how it is integrated back. torch only; pure functions."""

from goku_core.transport.guidance import guided
from goku_core.transport.rectified_flow import RectifiedFlow
from goku_core.transport.solvers import SOLVERS, integrate, time_grid
from goku_core.transport.timesteps import shift_time, timestep_of_uniform

__all__ = [
    "SOLVERS",
    "RectifiedFlow",
    "guided",
    "integrate",
    "shift_time",
    "time_grid",
    "timestep_of_uniform",
]
