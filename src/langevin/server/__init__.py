"""The HTTP server: OpenAI's endpoints, jobs of any modality, keys and limits, over the serving engine."""
