"""Pictures in, clips out: reading and framing pictures; frames, posters and metadata into files."""
