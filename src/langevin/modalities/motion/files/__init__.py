"""Files of motion: BVH, the JSON of DeepMimic, arrays."""
