"""Toys: points on a line or in the plane, whose laws are known."""
