"""Designs the prototype filter of `models/pqmf.py` and writes `models/pqmf_prototype.npy`.

A cosine-modulated filter bank of M bands reconstructs perfectly when its polyphase matrix E(z) is
paraunitary:
sum_l E_l^T E_(l+m) = I for m = 0 and 0 for every other lag m. The classic Kaiser prototype stops
near 60 dB; here the symmetric prototype is optimised directly (L-BFGS, float64) on that residual
plus its stop-band energy.

Usage: python scripts/design_pqmf.py        (half a minute on one core)
"""

from pathlib import Path

import numpy as np
import torch

BANDS = 16
# odd: symmetric around a sample, so that the bank has zero delay; (TAPS - 1) / 2 is a multiple of
# BANDS
TAPS = 385
STOP_WEIGHTS = (1e-4, 1e-6, 1e-8)  # annealed: first the stop band, then the reconstruction


def modulate(prototype: torch.Tensor) -> torch.Tensor:
    """Analysis filters [BANDS, TAPS] of a prototype [TAPS] (Lin & Vaidyanathan 1998, cosine
    modulation).
    """
    n = torch.arange(TAPS, dtype=prototype.dtype) - (TAPS - 1) / 2
    k = torch.arange(BANDS, dtype=prototype.dtype)[:, None]
    phase = torch.where(k % 2 == 0, torch.pi / 4, -torch.pi / 4)
    return 2 * prototype * torch.cos((2 * k + 1) * torch.pi / (2 * BANDS) * n + phase)


def residual(prototype: torch.Tensor) -> torch.Tensor:
    """Energy of distortion and aliasing together, averaged over the BANDS phases of an impulse."""
    filters = modulate(prototype)
    blocks = -(-TAPS // BANDS)
    padded = torch.nn.functional.pad(filters, (0, blocks * BANDS - TAPS))
    polyphase = padded.reshape(BANDS, blocks, BANDS).permute(1, 0, 2)
    total = prototype.new_zeros(())
    for lag in range(blocks):
        gram = torch.einsum("lki,lkj->ij", polyphase[: blocks - lag], polyphase[lag:])
        error = gram - (torch.eye(BANDS, dtype=gram.dtype) if lag == 0 else 0)
        total = total + error.square().sum() * (1 if lag == 0 else 2)
    return total / BANDS


def stop_energy(prototype: torch.Tensor) -> torch.Tensor:
    """Share of the prototype's spectral energy beyond pi / BANDS."""
    power = torch.fft.rfft(prototype, 8192).abs().square()
    return power[8192 // (2 * BANDS) :].sum() / power.sum()


def design() -> np.ndarray:
    """The optimised prototype, float64 [TAPS]."""
    n = np.arange(TAPS) - (TAPS - 1) / 2
    starts = [
        torch.tensor(np.sinc(n / (2 * BANDS) * c) * np.kaiser(TAPS, 10.0))
        for c in np.linspace(1.0, 1.2, 201)
    ]
    starts = [s * np.sqrt(BANDS) / modulate(s).norm() for s in starts]  # trace of E^T E is BANDS
    half = (
        min(starts, key=lambda s: float(residual(s)))[: TAPS // 2 + 1].clone().requires_grad_(True)
    )

    def whole() -> torch.Tensor:
        return torch.cat([half, half[:-1].flip(0)])

    def minimise(weight: float) -> None:
        options = {
            "max_iter": 3000,
            "max_eval": 6000,
            "history_size": 100,
            "tolerance_grad": 0,
            "tolerance_change": 0,
        }
        optimiser = torch.optim.LBFGS([half], line_search_fn="strong_wolfe", **options)

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            # Far from the optimiser's tolerances.
            loss = 1e8 * (residual(whole()) + weight * stop_energy(whole()))
            loss.backward()
            return loss

        optimiser.step(closure)

    for weight in STOP_WEIGHTS:
        minimise(weight)
    with torch.no_grad():
        levels = (float(10 * torch.log10(x)) for x in (residual(whole()), stop_energy(whole())))
    print("reconstruction error {:.1f} dB, stop band {:.1f} dB".format(*levels))
    return whole().detach().numpy()


if __name__ == "__main__":
    np.save(Path(__file__).parent.parent / "models" / "pqmf_prototype.npy", design())
