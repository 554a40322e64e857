"""Dataset files of other trainers: kohya's TOML and diffusion-pipe's, read as one folder of the files that they name."""
