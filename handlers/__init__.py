"""The factory bot's talk with owners. Importing this takes seconds (aiogram), so it is done late."""

from handlers.factory import ROUTERS, FactoryBot, make_dispatcher

__all__ = ["ROUTERS", "FactoryBot", "make_dispatcher"]
