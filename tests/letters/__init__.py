"""Tests of letters: by mail and in Telegram, reminders and offers."""
