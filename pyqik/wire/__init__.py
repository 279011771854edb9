"""The only code that speaks to Redis, and the only code that knows Sidekiq's key names and payload format."""
