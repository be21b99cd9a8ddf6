// Caching
