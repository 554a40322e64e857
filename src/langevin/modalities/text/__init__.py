"""Text as a modality: reading, tokenisation, tasks, generation, evaluation.

Data is a text file, JSON lines, a .parquet file with columns of text, or a folder in which most files are of these kinds.
"""
