"""Qwen2.5-VL, a language model that sees pictures: its keys, its pictures, its chats."""
