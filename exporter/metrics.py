"""The catalogue of metrics as data, and the families of a snapshot. Pure."""
