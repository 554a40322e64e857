"""OpenAI's endpoints, a file each; what a run answers is in the `ENDPOINTS` of its modality's options."""
