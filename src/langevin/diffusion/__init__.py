"""The mathematics of diffusion: torch only; no network, data, file or device policy.

Rooms: `schedule` (alpha, sigma, log-SNR), `noise` (counter-based randomness), `posterior` (what a denoiser answers),
`condition` (what it is told), `process` (how data is corrupted), `denoiser` (a network as a posterior), `objective`
(weightings and time densities), `guidance`, `sampler`. The symbols are those of `docs/notation.md`.
"""
