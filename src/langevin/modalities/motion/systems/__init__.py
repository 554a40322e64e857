"""Toy systems whose motion is known: x'' = a(x) with a conserved energy."""

from langevin.modalities.motion.systems.billiard import Billiard
from langevin.modalities.motion.systems.pendulum import Pendulum
from langevin.modalities.motion.systems.projectile import Projectile
from langevin.modalities.motion.systems.springs import Springs
from langevin.modalities.motion.systems.system import System

__all__ = ["AnySystem", "Billiard", "Pendulum", "Projectile", "Springs", "System"]

AnySystem = Pendulum | Billiard | Projectile | Springs
