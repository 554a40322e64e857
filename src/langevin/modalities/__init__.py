"""Kinds of data, one folder each, that implement `modality.Modality`; `union` lists them."""
