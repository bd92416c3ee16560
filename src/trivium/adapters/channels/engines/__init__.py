"""Channels that ask a search engine over the network."""
