"""Programs that speak to the gateway for somebody else: clients, never part of the supervisor."""
