"""Images: reading, encoding, sampling and evaluation.

The data is a folder of image files (directories are classes; metadata.jsonl, metadata.csv or .txt next to an image are
captions), a .parquet file or a folder of them with encoded images, or CIFAR-10's binary files.
"""
