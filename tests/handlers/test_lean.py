"""aiogram's models are built when they are used, and are then what they are after a usual import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from services.settings import ROOT

USER = {"id": 900000101, "is_bot": False, "first_name": "Aziza", "language_code": "uz"}
CHAT = {"id": 900000101, "type": "private", "first_name": "Aziza"}
GROUP = {"id": -1001, "type": "supergroup", "title": "Guruh", "is_forum": True}
MESSAGE = {"message_id": 11, "from": USER, "chat": CHAT, "date": 1796101195, "text": "Salom"}
MEMBER = {"status": "member", "user": USER}
ADMIN = {
    "status": "administrator",
    "user": USER,
    **dict.fromkeys(
        "can_be_edited is_anonymous can_manage_chat can_delete_messages can_manage_video_chats can_restrict_members "
        "can_promote_members can_change_info can_invite_users can_post_stories can_edit_stories can_delete_stories "
        "can_send_welcome_messages".split(),
        True,
    ),
}
PHOTO = {"file_id": "p", "file_unique_id": "p1", "width": 90, "height": 60}
ADDRESS = {
    "country_code": "UZ",
    "state": "",
    "city": "Toshkent",
    "street_line1": "1",
    "street_line2": "",
    "post_code": "100000",
}
EMOJI, CUSTOM = {"type": "emoji", "emoji": "👍"}, {"type": "custom_emoji", "custom_emoji_id": "5"}
BOOST = {"source": "premium", "user": USER}
POLL = {
    "id": "1",
    "question": "?",
    "options": [{"persistent_id": "0", "text": "Ha", "voter_count": 1}],
    "total_voter_count": 1,
    "is_closed": False,
    "is_anonymous": True,
    "type": "regular",
    "allows_multiple_answers": False,
    "allows_revoting": True,
    "members_only": False,
}
KINDS: dict[str, dict[str, Any]] = {
    "message": {
        **MESSAGE,
        "entities": [{"type": "bold", "offset": 0, "length": 5}],
        "reply_to_message": {**MESSAGE, "photo": [PHOTO]},
        "reply_markup": {"inline_keyboard": [[{"text": "Bor", "callback_data": "a:1"}]]},
        "forward_origin": {"type": "channel", "chat": GROUP, "message_id": 5, "date": 1796101000},
    },
    "edited_message": {**MESSAGE, "edit_date": 1796101196},
    "channel_post": {**MESSAGE, "chat": {"id": -1002, "type": "channel", "title": "Kanal"}, "from": None},
    "business_message": {**MESSAGE, "business_connection_id": "b1"},
    "edited_channel_post": {**MESSAGE, "chat": {"id": -1002, "type": "channel", "title": "Kanal"}, "edit_date": 1},
    "edited_business_message": {**MESSAGE, "business_connection_id": "b1", "edit_date": 1},
    "guest_message": MESSAGE,
    "stopped_message_generation": {"chat": CHAT, "draft_id": 5},
    "subscription": {"user": USER, "invoice_payload": "p", "state": "active"},
    "callback_query": {"id": "1", "from": USER, "chat_instance": "1", "data": "a:1", "message": MESSAGE},
    "inline_query": {"id": "1", "from": USER, "query": "gul", "offset": ""},
    "chosen_inline_result": {"result_id": "1", "from": USER, "query": "gul"},
    "shipping_query": {"id": "1", "from": USER, "invoice_payload": "p", "shipping_address": ADDRESS},
    "pre_checkout_query": {"id": "1", "from": USER, "currency": "UZS", "total_amount": 100, "invoice_payload": "p"},
    "poll": POLL,
    "poll_answer": {"poll_id": "1", "user": USER, "option_ids": [0], "option_persistent_ids": ["0"]},
    "my_chat_member": {
        "chat": CHAT,
        "from": USER,
        "date": 1796101195,
        "old_chat_member": MEMBER,
        "new_chat_member": {"status": "kicked", "user": USER, "until_date": 0},
    },
    "chat_member": {
        "chat": GROUP,
        "from": USER,
        "date": 1796101195,
        "old_chat_member": MEMBER,
        "new_chat_member": ADMIN,
    },
    "chat_join_request": {"chat": GROUP, "from": USER, "user_chat_id": 900000101, "date": 1796101195},
    "message_reaction": {
        "chat": CHAT,
        "user": USER,
        "message_id": 11,
        "date": 1796101195,
        "old_reaction": [EMOJI],
        "new_reaction": [CUSTOM],
    },
    "message_reaction_count": {
        "chat": GROUP,
        "message_id": 11,
        "date": 1796101195,
        "reactions": [{"type": EMOJI, "total_count": 2}],
    },
    "chat_boost": {
        "chat": GROUP,
        "boost": {"boost_id": "1", "add_date": 1, "expiration_date": 2, "source": BOOST},
    },
    "removed_chat_boost": {"chat": GROUP, "boost_id": "1", "remove_date": 1, "source": BOOST},
    "business_connection": {
        "id": "b1",
        "user": USER,
        "user_chat_id": 900000101,
        "date": 1796101195,
        "is_enabled": True,
        "rights": {"can_reply": True},
    },
    "deleted_business_messages": {"business_connection_id": "b1", "chat": CHAT, "message_ids": [1, 2]},
    "purchased_paid_media": {"from": USER, "paid_media_payload": "p"},
    "managed_bot": {"user": USER, "bot": {"id": 7, "is_bot": True, "first_name": "Gul", "username": "gul_bot"}},
}

EVERYTHING = """
    import json, re, sys, typing
    import pydantic, pydantic_core

    lean, updates = sys.argv[1] == "lean", json.load(sys.stdin)
    if not lean:
        import aiogram
    import handlers
    from aiogram import methods, types

    def below(kind):
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    bases = (types.TelegramObject, methods.TelegramMethod)
    models = {f"{one.__module__}.{one.__qualname__}": one for base in bases for one in below(base)}
    built = sum(model.__pydantic_complete__ for model in models.values())
    # Models that are not aiogram's, and are first met before the types in them were used.
    from aiogram.utils.chat_member import ChatMemberAdapter
    kinds = {"member": ChatMemberAdapter, "chat": pydantic.TypeAdapter(list[types.Chat])}
    kinds["owner"] = pydantic.create_model("Owner", boosts=(types.UserChatBoosts, ...))
    kinds["answer"] = methods.Response[list[types.Update]]
    found = {"schemas": {}, "models": {}}
    for name, kind in kinds.items():
        schema = kind.json_schema() if isinstance(kind, pydantic.TypeAdapter) else kind.model_json_schema()
        found["schemas"][name] = schema
    for name, model in models.items():
        model.model_rebuild()
        assert model.__pydantic_complete__ and isinstance(model.__pydantic_validator__, pydantic_core.SchemaValidator), name
        fields = {key: [repr(field), str(field.annotation)] for key, field in model.model_fields.items()}
        found["models"][name] = [fields, str(model.__signature__), repr(model.model_config.get("frozen"))]
    for model in (types.Update, methods.SendMessage, methods.SetMyCommands, methods.EditMessageReplyMarkup):
        found["schemas"][model.__name__] = model.model_json_schema()
    found["updates"] = [types.Update.model_validate(update).model_dump(mode="json") for update in updates]
    found["kinds"] = [types.Update.model_validate(update).event_type for update in updates]
    text = re.sub(" at 0x[0-9a-f]+", "", json.dumps(found, sort_keys=True, default=str))
    own = any("model_rebuild" in vars(base) for base in bases)
    print(json.dumps({"built": built, "models": len(models), "own": own, "found": json.loads(text)}))
"""


def run(program: str, *arguments: str, given: object = None, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(path)},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_model_is_built_later_and_is_the_same() -> None:
    cases = json.loads((ROOT / "tests/payloads/telegram_updates.json").read_text())["cases"]
    updates = [update for case in cases for update in case["updates"]]
    updates += [{"update_id": number, kind: content} for number, (kind, content) in enumerate(KINDS.items(), 1)]
    outcomes = {}
    for way in ("lean", "usual"):
        done = run(EVERYTHING, way, given=updates)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "aiogram_imported_whole" not in done.stdout + done.stderr
        outcomes[way] = json.loads(done.stdout.splitlines()[-1])
    lean, usual = outcomes["lean"], outcomes["usual"]
    assert lean["models"] == usual["models"] > 600
    assert lean["built"] < 10 and usual["built"] > 600
    assert lean["own"] and not usual["own"], "who has imported aiogram before keeps it as it is"
    assert lean["found"]["kinds"][-len(KINDS) :] == list(KINDS)
    for part, content in usual["found"].items():
        assert lean["found"][part] == content, part


def test_a_model_is_built_once_however_many_threads_use_it_first() -> None:
    done = run(
        """
        import sys, threading
        import handlers
        from aiogram.types import ChatFullInfo

        builds, failures = [], []

        class Info(ChatFullInfo):
            @classmethod
            def __pydantic_on_complete__(cls):
                builds.append(cls)

        def use():
            together.wait()
            try:
                Info.model_validate({"id": 1})
            except ValueError as error:
                failures.append(len(error.errors()))

        together = threading.Barrier(8)
        sys.setswitchinterval(0.0005)
        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert builds == [Info] and len(failures) == 8 and len(set(failures)) == 1, (builds, failures)
        """
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_variables_of_whoever_comes_first_do_not_count() -> None:
    done = run(
        """
        import handlers
        from aiogram.types import CallbackQuery

        def first():
            Message, User, MaybeInaccessibleMessageUnion = int, int, int
            sender = {"id": 5, "is_bot": False, "first_name": "Aziza"}
            return CallbackQuery(**{"id": "1", "from": sender, "chat_instance": "1"})

        assert first().from_user.first_name == "Aziza"
        """
    )
    assert done.returncode == 0, done.stderr[-2000:]


AIOGRAM = {
    "__init__.py": "from . import methods, types",
    "methods/__init__.py": "from .base import TelegramMethod",
    "methods/base.py": "from pydantic import BaseModel\nclass TelegramMethod(BaseModel): pass",
    "types/base.py": """
from pydantic import BaseModel, ConfigDict
class TelegramObject(BaseModel):
    model_config = ConfigDict(defer_build=True)
""",
    "types/__init__.py": """
from typing import Optional
from .base import TelegramObject
from .user import User
from .message import Message
from .update import Update
names = {"Optional": Optional, "User": User, "Message": Message}
for one in (User, Message, Update):
    one.model_rebuild(_types_namespace=names)
""",
    "types/user.py": """
from .base import TelegramObject
class User(TelegramObject):
    id: int
""",
    "types/message.py": """
from .base import TelegramObject
class Message(TelegramObject):
    sender: "Optional[User]"
""",
    "types/update.py": """
from .base import TelegramObject
class Update(TelegramObject):
    message: "Optional[Message]"
""",
}
SHAPES = {
    "as_known": ("", "", ""),
    "not_built_at_once": ("types/__init__.py", "one.model_rebuild(_types_namespace=names)", "one.model_rebuild()"),
    "base_of_another_name": ("types/", "TelegramObject", "TelegramKind"),
    "names_hidden_in_texts": ("types/update.py", "Optional[Message]", "Optional['Message']"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_aiogram_of_another_make_is_imported_as_usual(shape: str, tmp_path: Path) -> None:
    where, old, new = SHAPES[shape]
    for name, text in AIOGRAM.items():
        file = tmp_path / "aiogram" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace(old, new) if where and name.startswith(where) else text)
    done = run(
        """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("lean", sys.argv[1])
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        import aiogram
        kinds = aiogram.types.User, aiogram.types.Message, aiogram.types.Update
        print("complete", *[kind.__name__ for kind in kinds if kind.__pydantic_complete__])
        sender = {"id": 5}
        assert aiogram.types.Update(message={"sender": sender}).message.sender.id == 5
        """,
        str(ROOT / "handlers" / "lean.py"),
        path=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    usual = shape != "as_known"
    assert (done.stdout + done.stderr).count("aiogram_imported_whole") == usual
    assert ("complete User Message Update" if usual else "complete Message Update") in done.stdout.splitlines()
