"""After the clip: cut, joined, played backwards, slowed down, enlarged, captioned, given sound, saved as a picture."""
