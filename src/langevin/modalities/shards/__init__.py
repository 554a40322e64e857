"""Tar shards, read as if they were unpacked where they lie: a path continues into a shard, and any file is one seek away.

The format is that of the package `webdataset`: plain tar archives, in which files of one key (`cat/12.jpg`, `cat/12.txt`)
follow each other and are one example. A shard is indexed once: where the bytes of each file begin, and how many there are.
So the order of reading is free, nothing is kept between reads, and training on shards is training on the files in them.
"""
