"""Diffusion models for any data: trained, measured and served."""
