"""How do weights change? The module, the phases of a fit, and all that a trainer needs."""
