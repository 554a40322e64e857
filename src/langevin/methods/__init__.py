"""What is learned, and by whom: a `Method` has players (networks that are optimised), a loss for each, and a generator."""

from langevin.methods.diffusion import Diffusion, Method, Report

__all__ = ["Diffusion", "Method", "Report"]
