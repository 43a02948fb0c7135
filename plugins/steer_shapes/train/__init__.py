"""Recipes that train the embedded models: autoencoder, text-to-image, CLIP."""
