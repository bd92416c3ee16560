"""Indexes of a catalog's vectors: exact (flat), and approximate ones (HNSW, IVF-PQ)."""
