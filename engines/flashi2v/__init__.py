"""FlashI2V: a picture becomes the first frame of a clip, on Wan 2.1."""
