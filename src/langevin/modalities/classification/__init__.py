"""Classes by any run with classes: their posterior by denoising, a linear probe, and which labels to trust or ask for."""
