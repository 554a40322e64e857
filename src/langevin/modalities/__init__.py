"""What data is: one folder a modality, each with data, codec, metrics and preview."""
