"""The live page of a running lab: a collector that reads the nodes' stores, a JSON API, and the page itself."""
