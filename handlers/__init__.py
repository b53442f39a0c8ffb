"""The factory bot's talk with owners. Importing this takes a second (aiogram), so it is done late."""

from handlers import lean  # noqa: F401 - imports aiogram in its own way, so it comes before what imports aiogram

# isort: split
from handlers.factory import ROUTERS, FactoryBot, make_dispatcher

__all__ = ["ROUTERS", "FactoryBot", "make_dispatcher"]
