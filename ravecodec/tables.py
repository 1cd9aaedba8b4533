"""From what a model file says to the tables that streams are coded with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import Predictor, StaticModel
from ravecodec.models.coding import Coding, Prediction


def tables_of(coding: Coding) -> StaticModel:
    """The tables of a model."""
    return static_model(coding.shapes, coding.scales, coding.prediction)


def static_model(shapes: NDArray[np.uint8], scales: NDArray[np.int16], prediction: Prediction | None) -> StaticModel:
    """The tables of these rows [latent] and this prediction."""
    predictor = Predictor(prediction.weights, prediction.shapes, prediction.scales) if prediction else None
    return StaticModel(shapes, scales, predictor)
