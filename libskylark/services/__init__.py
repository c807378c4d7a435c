"""The two services that every node runs beside its functions: node-info and elect."""
