"""The model: one turn asked, one reply or one AttemptFailed. Alone imports the provider's SDK."""
