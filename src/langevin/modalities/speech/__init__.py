"""Speech: sound of voices, and text to speech."""
