"""Userpilot's Import API: the wire, the reader of its failure texts, and a local stand-in for it."""
