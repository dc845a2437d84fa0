"""Pictures from arrays: no data reading, no models."""
