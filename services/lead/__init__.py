"""The lead: plan, decide, dispatch, journal, broadcast."""
