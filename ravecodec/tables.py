"""From what a model file says to the tables that streams are coded with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import Predictor, StaticModel
from ravecodec.models.coding import Coding, Prediction

if TYPE_CHECKING:  # imports torch
    from ravecodec.models.package import Model

# In a model's info, lists of ids, hex:
REFIT_OF = "refit_of"  # of the models whose weights and static tables it has
SAME_AS = "same_tables_as"  # of those that had its predictor, too


def tables_of(coding: Coding) -> StaticModel:
    """The tables of a model."""
    return static_model(coding.shapes, coding.scales, coding.prediction)


def plays(own: bytes, info: Mapping[str, Any], model_id: bytes) -> bool:
    """Whether a model with this id and info decodes streams of `model_id`: its own, and those of
    what it was refit of, which has the same weights, axes and static tables."""
    return model_id == own or model_id.hex() in (*earlier_ids(info), *same_ids(info))


def earlier_ids(info: Mapping[str, Any]) -> list[str]:
    """The ids, hex, of the models that a model was refit of, and whose predictor it has not."""
    return _ids(info, REFIT_OF)


def same_ids(info: Mapping[str, Any]) -> list[str]:
    """The ids, hex, of the models that a model was refit of, and whose predictor it has."""
    return _ids(info, SAME_AS)


def _ids(info: Mapping[str, Any], key: str) -> list[str]:
    found = info.get(key, [])
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def tables_for(model: Model, model_id: bytes) -> StaticModel:
    """The tables of streams that name this id: without the predictor where it is an earlier one,
    which had none or another."""
    same = model_id == model.id or model_id.hex() in same_ids(model.info)
    return tables_of(model.coding if same else replace(model.coding, prediction=None))


def static_model(
    shapes: NDArray[np.uint8], scales: NDArray[np.int16], prediction: Prediction | None
) -> StaticModel:
    """The tables of these rows [latent] and this prediction."""
    predictor = (
        Predictor(prediction.weights, prediction.shapes, prediction.scales) if prediction else None
    )
    return StaticModel(shapes, scales, predictor)
