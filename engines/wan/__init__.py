"""What the engines built on Wan share: networks and their key rules, latents, text, pictures, decoding."""
