"""The way of a message, tested through the outside: real databases, a fake Bot API, fake models, processes that die."""
