"""Samples in memory: float32, full scale +-1. Every module names them by these two."""

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]  # [channels, samples]
Interleaved = NDArray[np.float32]  # [samples, channels], as files hold them
