"""What touches models, indexes and processes, imported only when it is used."""
