"""The HTTP API for back ends. `app` puts it together, `routes` does what is asked, `connections` bounds who may ask."""
