"""Reading and writing files: formats, archives, downloads, caches."""
