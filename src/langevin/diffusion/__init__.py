"""The mathematics of diffusion: torch only; no network, data, file or device policy.

Modules: `schedule` (alpha, sigma, log-SNR), `noise` (counter-based randomness), `posterior` (what a denoiser predicts),
`condition` (what it is conditioned on), `process` (forward processes), `denoiser` (a network as a posterior), `objective`
(losses and time densities), `guidance`, `sampler`, `likelihood`, `chain` (MCMC). `docs/notation.md` has the notation.
"""
