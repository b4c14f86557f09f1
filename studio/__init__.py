"""The studio: everything that knows gradio, SQLite or the network. Imports no torch and touches no tensor."""
