"""Images that are given in part, blurred, noisy, small or grey, and drawn as they may have been; or changed to others."""

from langevin.modalities.image.edit.plan import edit_plan

__all__ = ["edit_plan"]
