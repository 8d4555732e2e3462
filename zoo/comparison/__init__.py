"""Models compared on the same events: `zoo.benchmark`, from a YAML file to one table with spreads."""
