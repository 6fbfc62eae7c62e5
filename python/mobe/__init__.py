"""Compresses, checks and runs mixture-of-experts language models: the program mobe."""
