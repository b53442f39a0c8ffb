"""All settings: ``config.toml`` below the environment and ``.env``.

Read once by ``bot.py`` and handed over; nothing else looks at the environment. Wrong values and unknown keys are collected
into one :class:`SettingsError` with a line for each.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from yarl import URL

from services.ai import PROVIDERS
from services.i18n import Words

ROOT = Path(__file__).resolve().parent.parent


class SettingsError(Exception):
    """The configuration cannot be used; ``lines`` says why, one line a fault."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def _http_address(value: str) -> str:
    wanted = ValueError("must be an address like https://example.uz, with nothing after a ? or #")
    try:
        url = URL(value)
    except ValueError:
        raise wanted from None
    if url.scheme not in ("http", "https") or not url.host or re.search(r"[\s?#]", value):
        raise wanted
    return value.rstrip("/")


HttpAddress = Annotated[str, AfterValidator(_http_address)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any) -> Any:
        # Pydantic would take true for 1, and no setting is a switch.
        if isinstance(value, bool):
            raise ValueError("cannot be true or false")
        return value


class Server(_Section):
    """Where it listens, what stands in front of it, and how long it may take to stop."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535)
    public_url: Annotated[str, AfterValidator(lambda value: value and _http_address(value))] = ""
    trusted_proxies: int = Field(0, ge=0, le=10)
    shutdown_timeout_s: float = Field(25, gt=0, le=600)
    body_limit_kib: int = Field(4096, ge=16, le=65536)
    request_body_timeout_s: float = Field(30, gt=0, le=600)
    worker_port: int = Field(0, ge=0, le=65535)


class Logging(_Section):
    """How much is logged and how it looks; ``auto``: for eyes on a terminal, JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class DatabaseSection(_Section):
    """Connections, how long a statement may take (PostgreSQL), what is kept free for deletions (SQLite), and backups."""

    pool_size: int = Field(5, ge=2, le=100)
    statement_timeout_ms: int = Field(30_000, ge=1000)
    reserve_mib: int = Field(32, ge=0, le=4096)
    keep_backups: int = Field(7, ge=1, le=1000)


class Queue(_Section):
    """What is in work at once, leases and attempts, and how long finished items are kept."""

    conversations: int = Field(512, ge=1, le=10_000)
    conversations_per_owner: int = Field(128, ge=1, le=10_000)
    sends: int = Field(128, ge=1, le=10_000)
    sends_per_owner: int = Field(64, ge=1, le=10_000)
    jobs: int = Field(2, ge=1, le=64)
    lease_s: float = Field(30, gt=0, le=600)
    max_attempts: int = Field(3, ge=1, le=20)
    handling_timeout_s: float = Field(180, gt=0, le=3600)
    max_answer_batch: int = Field(10, ge=1, le=100)
    idle_poll_s: float = Field(1.0, gt=0, le=60)
    keep_done_days: float = Field(8, ge=1, le=365)
    max_age_h: float = Field(24, gt=0, le=8760)


class Limits(_Section):
    """What a customer, a bot and an owner may use; 429 or a polite line beyond it."""

    contact_messages_per_minute: int = Field(20, ge=1)
    contact_messages_per_hour: int = Field(200, ge=1)
    bot_messages_per_minute: int = Field(600, ge=1)
    owner_messages_per_day: int = Field(20_000, ge=1)
    owner_cost_usd_per_day: Decimal = Field(Decimal(20), ge=0)
    owner_pending_messages: int = Field(5000, ge=1)
    bots_per_owner: int = Field(20, ge=1)
    members_per_owner: int = Field(20, ge=1)
    documents_per_bot: int = Field(200, ge=1)
    api_requests_per_minute: int = Field(300, ge=1)
    login_attempts_per_15_min: int = Field(5, ge=1)
    message_chars: int = Field(4000, ge=100, le=100_000)
    name_chars: int = Field(64, ge=8, le=64)
    prompt_chars: int = Field(8000, ge=100, le=100_000)
    picture_mib: int = Field(5, ge=1, le=10)
    bot_pictures_mib: int = Field(200, ge=1, le=100_000)
    visitor_streams: int = Field(3, ge=1, le=20)
    bot_streams: int = Field(500, ge=1, le=100_000)
    streams: int = Field(2000, ge=1, le=100_000)
    demo_answers_per_day: int = Field(500, ge=0, le=1_000_000)


class Telegram(_Section):
    """The Bot API's address, the pace of sending, and when a bot that says nothing is begun anew."""

    api_base: HttpAddress = "https://api.telegram.org"
    oauth_base: HttpAddress = "https://oauth.telegram.org"
    poll_timeout_s: int = Field(50, ge=1, le=50)
    messages_per_second: float = Field(30, gt=0)
    bulk_share: float = Field(0.7, gt=0, le=1)
    chat_messages_per_second: float = Field(1.0, gt=0)
    chat_burst: int = Field(4, ge=1)
    group_messages_per_minute: float = Field(20, ge=2)
    send_timeout_s: float = Field(30, gt=0, le=600)
    typing_after_ms: int = Field(300, ge=0)
    draft_after_s: float = Field(1.5, ge=0, le=60)
    drafts_per_second: float = Field(1.0, ge=0, le=20)
    silent_after_s: float = Field(900, gt=0, le=86_400)
    webhook_max_connections: int = Field(40, ge=1, le=100_000)


class Meta(_Section):
    """The Graph API's addresses and version, and the pace of sending on WhatsApp and Instagram."""

    graph_base: HttpAddress = "https://graph.facebook.com"
    instagram_graph_base: HttpAddress = "https://graph.instagram.com"
    version: str = Field("v26.0", pattern=r"^v\d{1,3}\.\d$")
    send_timeout_s: float = Field(30, gt=0, le=600)
    messages_per_second: float = Field(80, gt=0)
    chat_messages_per_minute: float = Field(10, gt=0)
    chat_burst: int = Field(40, ge=1)
    private_replies_per_hour: int = Field(700, ge=1)
    bulk_share: float = Field(0.7, gt=0, le=1)


class Broadcasts(_Section):
    """How many customers an owner may write to on their own accord, and when people sleep (hours of Tashkent)."""

    receivers_per_day: int = Field(20_000, ge=1, le=10_000_000)
    quiet_from: int = Field(21, ge=0, le=23)
    quiet_until: int = Field(9, ge=0, le=23)


class Channels(_Section):
    """How often every connected channel is looked at."""

    check_every_h: float = Field(6, ge=1, le=168)


class Knowledge(_Section):
    """Reading of documents (in a child process of this much time and memory), search, and embeddings."""

    max_file_mib: int = Field(10, ge=1, le=20)
    passages: int = Field(5, ge=1, le=5)
    max_passages_in_memory: int = Field(3000, ge=10)
    cache_mib: int = Field(48, ge=1)
    not_found_below: float = Field(0.28, ge=0, le=1)
    reader_seconds: float = Field(30, gt=0, le=3600)
    reader_memory_mib: int = Field(1024, ge=128, le=1_048_576)
    embedding: Literal["none", "gemini", "openai"] = "none"
    embedding_model_gemini: str = "gemini-embedding-001"
    embedding_model_openai: str = "text-embedding-3-small"
    embedding_dimensions: int = Field(768, ge=64, le=4096)

    @property
    def max_file_bytes(self) -> int:
        """The size of the largest document."""
        return self.max_file_mib * 1_048_576


class Media(_Section):
    """What of customers' files is kept and read; sizes in MiB, ``link_minutes``: how long an address of one works."""

    photo_mib: int = Field(10, ge=1, le=20)
    audio_mib: int = Field(16, ge=1, le=20)
    video_mib: int = Field(16, ge=1, le=64)
    document_mib: int = Field(10, ge=1, le=20)
    megapixels: int = Field(40, ge=1, le=200)
    picture_side: int = Field(2048, ge=256, le=8192)
    audio_seconds: int = Field(300, ge=1, le=3600)
    fetch_seconds: float = Field(60, gt=0, le=170)
    link_minutes: int = Field(60, ge=1, le=1440)
    files_per_hour: int = Field(60, ge=1)
    owner_files_mib: int = Field(2048, ge=1)
    keep_days: int = Field(180, ge=1)
    model_seconds: float = Field(45, gt=0, le=170)


class Period(_Section):
    """How long a plan is bought for, and what that makes it cheaper; ``months`` of its price are paid."""

    days: int = Field(ge=1, le=3660)
    months: int = Field(ge=1, le=120)
    discount_percent: int = Field(0, ge=0, le=99)


class Subscriptions(_Section):
    """The free days, the days after a paid plan's end, and the periods for which plans are sold."""

    trial_days: int = Field(3, ge=0, le=365)
    test_until_day: int = Field(14, ge=0, le=365)
    grace_days: int = Field(3, ge=0, le=60)
    remind_days: int = Field(3, ge=1, le=60)
    monthly: Period = Period(days=30, months=1)
    quarterly: Period = Period(days=90, months=3, discount_percent=5)
    annual: Period = Period(days=365, months=12, discount_percent=15)

    @model_validator(mode="after")
    def _in_order(self) -> Subscriptions:
        if self.test_until_day < self.trial_days:
            raise ValueError("test_until_day counts from registration too: it cannot be before trial_days")
        return self


_ALL_LANGUAGES: Any = ("uz", "ru", "en")


def _title(value: Any) -> Words:
    """Check the title of a plan: a string, shown as it is written, or one for each language."""
    each = list(value.values()) if isinstance(value, dict) else [value]
    if isinstance(value, Words):
        return value
    if isinstance(value, dict) and set(value) != set(_ALL_LANGUAGES):
        raise ValueError('write a string, or one for each language: {uz = "…", ru = "…", en = "…"}')
    if not all(isinstance(title, str) and 1 <= len(title.strip()) <= 40 for title in each):
        raise ValueError("a title has 1 to 40 characters")
    return Words.of(value)


class PlanFacts(_Section):
    """What one plan costs a month and what it allows; ``ikpu`` and what follows it are for fiscal receipts."""

    title: Annotated[Words, PlainValidator(_title)]
    price_uzs: int = Field(0, ge=0, le=100_000_000)
    bots: int = Field(1, ge=0)
    channels: tuple[Literal["telegram", "web", "whatsapp", "instagram"], ...] = Field(min_length=1)
    languages: tuple[Literal["uz", "ru", "en"], ...] = Field(min_length=1)
    messages: int = Field(ge=0)
    knowledge_mib: int = Field(ge=1)
    operators: int = Field(0, ge=0)
    ikpu: str = Field("", pattern=r"^([0-9]{17})?$")
    package_code: str = Field("", pattern=r"^[0-9]{0,20}$")
    vat_percent: int = Field(0, ge=0, le=100)

    @field_validator("channels", "languages")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names the same thing twice")
        return value

    @model_validator(mode="after")
    def _whole_fiscal(self) -> PlanFacts:
        if bool(self.ikpu) != bool(self.package_code):
            raise ValueError("ikpu and package_code go together")
        return self


_ALL_CHANNELS: Any = ("telegram", "web", "whatsapp", "instagram")
FREE_PLANS = ("trial", "test")
"""Plans that nobody buys: what an owner has by the clock."""


def _default_plans() -> dict[str, PlanFacts]:
    few: Any = ("telegram", "web")
    every, languages = _ALL_CHANNELS, _ALL_LANGUAGES
    return {
        "trial": PlanFacts(
            title=Words.of({"uz": "Sinov davri", "ru": "Пробный период", "en": "Trial"}),
            channels=every,
            languages=languages,
            messages=300,
            knowledge_mib=50,
            operators=3,
        ),
        "test": PlanFacts(
            title=Words.of({"uz": "Test rejimi", "ru": "Тестовый режим", "en": "Test mode"}),
            channels=few,
            languages=("uz",),
            messages=100,
            knowledge_mib=50,
            operators=1,
        ),
        "starter": PlanFacts(
            title=Words.of("Starter"),
            price_uzs=149_000,
            channels=few,
            languages=languages,
            messages=1000,
            knowledge_mib=50,
            operators=1,
        ),
        "basic": PlanFacts(
            title=Words.of("Basic"),
            price_uzs=290_000,
            channels=every,
            languages=languages,
            messages=3000,
            knowledge_mib=200,
            operators=5,
        ),
        "premium": PlanFacts(
            title=Words.of("Premium"),
            price_uzs=590_000,
            bots=5,
            channels=every,
            languages=languages,
            messages=15_000,
            knowledge_mib=1000,
            operators=20,
        ),
    }


class Payments(_Section):
    """How long something may be paid, the gateways' addresses, and who is named on receipts."""

    order_hours: int = Field(24, ge=1, le=720)
    seller: str = Field("BotFactory", min_length=1, max_length=100)
    seller_tin: str = Field("", pattern=r"^([0-9]{9}|[0-9]{14})?$")
    payme_checkout: HttpAddress = "https://checkout.paycom.uz"
    payme_test_checkout: HttpAddress = "https://test.paycom.uz"
    click_checkout: HttpAddress = "https://my.click.uz/services/pay"
    click_api: HttpAddress = "https://api.click.uz/v2/merchant"
    uzum_checkout: HttpAddress = "https://www.uzumbank.uz/open-service"
    uzum_parameter: str = Field("account", pattern=r"^[A-Za-z_]{1,40}$")
    usd_rate_uzs: Decimal = Field(Decimal(0), ge=0, le=10_000_000)


class Referrals(_Section):
    """What a partner earns: of whom, how much, and when it can be used."""

    window_days: int = Field(30, ge=1, le=365)
    commission_percent: int = Field(20, ge=0, le=100)
    hold_days: int = Field(14, ge=0, le=365)
    payout_min_uzs: int = Field(100_000, ge=0)


class Mail(_Section):
    """How letters are sent, and how often those go out that offer a plan."""

    sender: str = ""
    sender_name: str = Field("BotFactory", min_length=1, max_length=60)
    per_minute: float = Field(30, gt=0)
    timeout_s: float = Field(30, gt=0, le=300)
    offer_every_h: int = Field(54, ge=1, le=8760)
    offer_discount_percent: int = Field(10, ge=1, le=99)
    offer_coupon_days: int = Field(7, ge=1, le=365)


class Webhooks(_Section):
    """What owners' own servers are told; ``any``: also by http and inside this machine's network, for development alone."""

    per_owner: int = Field(5, ge=1, le=100)
    timeout_s: float = Field(10, gt=0, le=60)
    at_once: int = Field(20, ge=1, le=500)
    addresses: Literal["public", "any"] = "public"


class ModelFacts(_Section):
    """What differs from the rule for one model; prices in US dollars for a million tokens."""

    effort: str | None = None
    api: Literal["responses", "chat"] | None = None
    price_in: Decimal | None = Field(None, ge=0)
    price_cached: Decimal | None = Field(None, ge=0)
    price_out: Decimal | None = Field(None, ge=0)
    context_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _whole_price(self) -> ModelFacts:
        if (self.price_in is None) != (self.price_out is None) or (
            self.price_cached is not None and self.price_in is None
        ):
            raise ValueError("price_in and price_out go together, and price_cached only with them")
        return self


class OwnKey(_Section):
    """The model that answers with an owner's own OpenAI key."""

    model: str = "gpt-6-luna"


class AI(_Section):
    """Who answers: chains of ``provider:model`` by role, times, lengths, and prices of models that are not in the book."""

    role: str = "fast"
    deadline_s: float = Field(30, gt=0, le=600)
    first_byte_s: float = Field(10, gt=0, le=600)
    max_output_tokens: int = Field(700, ge=16)
    max_answer_chars: int = Field(3500, ge=100)
    history_turns: int = Field(8, ge=0, le=50)
    history_chars: int = Field(4000, ge=0)
    breaker_failures: int = Field(3, ge=1)
    breaker_rest_s: float = Field(30, gt=0, le=86_400)
    unknown_price_in: Decimal = Field(Decimal(5), ge=0)
    unknown_price_out: Decimal = Field(Decimal(25), ge=0)
    roles: dict[str, list[str]] = Field(
        default_factory=lambda: {
            "fast": ["gemini:gemini-3.5-flash-lite", "openai:gpt-6-luna", "anthropic:claude-haiku-5-5"],
        }
    )
    models: dict[str, ModelFacts] = Field(default_factory=dict)
    own_key: OwnKey = OwnKey()

    @field_validator("roles")
    @classmethod
    def _roles(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for role, chain in value.items():
            for entry in chain:
                provider, colon, name = entry.partition(":")
                if provider not in PROVIDERS or not colon or not name:
                    raise ValueError(f"{role}: {entry!r} must be written provider:model ({', '.join(PROVIDERS)})")
        return value

    @model_validator(mode="after")
    def _role_exists(self) -> AI:
        if self.role not in self.roles:
            raise ValueError(f"role {self.role!r} has no chain in [ai.roles]")
        return self


class FileSettings(_Section):
    """The shape of ``config.toml``."""

    server: Server = Server()
    logging: Logging = Logging()
    database: DatabaseSection = DatabaseSection()
    queue: Queue = Queue()
    limits: Limits = Limits()
    telegram: Telegram = Telegram()
    meta: Meta = Meta()
    broadcasts: Broadcasts = Broadcasts()
    channels: Channels = Channels()
    knowledge: Knowledge = Knowledge()
    media: Media = Media()
    ai: AI = Field(default_factory=AI)
    subscriptions: Subscriptions = Subscriptions()
    plans: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")], PlanFacts] = Field(
        default_factory=_default_plans
    )
    payments: Payments = Payments()
    referrals: Referrals = Referrals()
    mail: Mail = Mail()
    webhooks: Webhooks = Webhooks()

    @field_validator("plans")
    @classmethod
    def _plans(cls, value: dict[str, PlanFacts]) -> dict[str, PlanFacts]:
        for free in FREE_PLANS:
            if free not in value:
                raise ValueError(f"the plan {free!r} is missing: it is what an owner has before paying")
            if value[free].price_uzs:
                raise ValueError(f"{free}: nobody pays for it, so price_uzs must be 0")
        paid = {name: plan for name, plan in value.items() if name not in FREE_PLANS}
        if not paid:
            raise ValueError("there is no plan to buy")
        for name, plan in paid.items():
            if plan.price_uzs < 1000:
                raise ValueError(f"{name}: price_uzs must be 1000 or more, which is the least that gateways take")
        if len({plan.price_uzs for plan in paid.values()}) < len(paid):
            raise ValueError("two plans cost the same: which of them is the larger could not be told")
        return value


class Secrets(_Section):
    """What the environment alone gives."""

    data_dir: Path = Path("data")
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    secret_key: SecretStr | None = None
    encryption_keys: SecretStr | None = None
    webhook_base_url: HttpAddress | None = None
    metrics_token: SecretStr | None = None
    telegram_bot_token: SecretStr | None = None
    admin_email: str | None = None
    admin_password: SecretStr | None = None
    admin_telegram_ids: tuple[Annotated[int, Field(gt=0, lt=2**53)], ...] = ()
    gemini_api_key: SecretStr | None = None
    openai_api_key: SecretStr | None = None
    anthropic_api_key: SecretStr | None = None
    gemini_base_url: HttpAddress | None = None
    openai_base_url: HttpAddress | None = None
    anthropic_base_url: HttpAddress | None = None
    whatsapp_access_token: SecretStr | None = None
    whatsapp_phone_number_id: Annotated[str, Field(pattern=r"^[0-9]{5,32}$")] | None = None
    whatsapp_app_secret: SecretStr | None = None
    whatsapp_verify_token: SecretStr | None = None
    instagram_access_token: SecretStr | None = None
    instagram_app_secret: SecretStr | None = None
    instagram_verify_token: SecretStr | None = None
    telegram_login_secret: SecretStr | None = None
    mail_server: str | None = None
    mail_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    mail_username: str | None = None
    mail_password: SecretStr | None = None
    payme_merchant_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")] | None = None
    payme_key: SecretStr | None = None
    payme_test_key: SecretStr | None = None
    click_service_id: Annotated[int, Field(gt=0)] | None = None
    click_merchant_id: Annotated[int, Field(gt=0)] | None = None
    click_merchant_user_id: Annotated[int, Field(gt=0)] | None = None
    click_secret_key: SecretStr | None = None
    uzum_service_id: Annotated[int, Field(gt=0)] | None = None
    uzum_username: str | None = None
    uzum_password: SecretStr | None = None

    @field_validator("admin_telegram_ids", mode="before")
    @classmethod
    def _ids(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = value.replace(",", " ").split()
            if not all(part.isascii() and part.isdigit() for part in parts):
                raise ValueError(
                    "must be the numbers of Telegram accounts with commas between them, like 12345678, 23456789"
                )
            return tuple(parts)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from redis.asyncio import Redis
            from redis.exceptions import RedisError

            try:
                # Connects to nothing; parameters that no connection takes are found out here.
                pool = Redis.from_url(value.get_secret_value()).connection_pool
                pool.connection_class(**pool.connection_kwargs)
            except (ValueError, TypeError, RedisError):
                raise ValueError("must be an address like redis://localhost:6379/0") from None
        return value

    @field_validator("telegram_bot_token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]{20,}", value.get_secret_value()):
            raise ValueError("is not a bot token as BotFather writes it (digits:letters)")
        return value


# Name in the environment -> section and key (file settings) or key of Secrets.
_ENVIRONMENT: Mapping[str, tuple[str, str]] = {
    "PORT": ("server", "port"),
    "HOST": ("server", "host"),
    "WORKER_PORT": ("server", "worker_port"),
    "TELEGRAM_API_BASE": ("telegram", "api_base"),
    "TELEGRAM_OAUTH_BASE": ("telegram", "oauth_base"),
    "META_GRAPH_BASE": ("meta", "graph_base"),
    "INSTAGRAM_GRAPH_BASE": ("meta", "instagram_graph_base"),
    "LOG_LEVEL": ("logging", "level"),
    "LOG_FORMAT": ("logging", "format"),
    "SESSION_SECRET": ("", "secret_key"),
    **{name.upper(): ("", name) for name in Secrets.model_fields},
}

# What connects the installation's own account of a kind. Which one a token of Instagram Login is of, Meta tells.
_OWN_ACCOUNT: Mapping[str, tuple[str, ...]] = {
    "whatsapp": ("access_token", "phone_number_id"),
    "instagram": ("access_token",),
}

# Names of parts that later releases bring; a .env prepared for them must not stop the start.
_KNOWN_LATER = frozenset(
    {
        "REPLICATE_API_KEY",
        "IDEOGRAM_API_KEY",
        "RUNWAY_API_KEY",
        "PIKA_API_KEY",
        "GOOGLE_VEO_API_KEY",
    }
)


class Settings(FileSettings):
    """Everything, read and checked. ``secrets`` prints as stars."""

    secrets: Secrets = Secrets()
    _unused: tuple[str, ...] = PrivateAttr(())

    @property
    def unused(self) -> tuple[str, ...]:
        """The names that are set and that nothing uses yet."""
        return self._unused

    @property
    def data_dir(self) -> Path:
        """Where the program writes."""
        return self.secrets.data_dir

    @property
    def database_url(self) -> str:
        """The database's address; SQLite in the data folder when none is set."""
        if self.secrets.database_url:
            return self.secrets.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'botfactory.db'}"

    @property
    def public_url(self) -> str:
        """The address that links for people begin with."""
        if self.secrets.webhook_base_url:
            return self.secrets.webhook_base_url
        if self.server.public_url:
            return self.server.public_url
        return f"http://localhost:{self.server.port}"

    def model_key(self, provider: str) -> str | None:
        """Return the installation's key for a model provider."""
        secret: SecretStr | None = getattr(self.secrets, f"{provider}_api_key")
        return secret.get_secret_value() if secret else None

    def app_secret(self, kind: str) -> str:
        """Return the secret of the installation's own Meta app for a kind of channel; empty where there is none."""
        secret: SecretStr | None = getattr(self.secrets, f"{kind}_app_secret", None)
        return secret.get_secret_value() if secret else ""

    def verify_token(self, kind: str) -> str:
        """Return the word by which the installation's own Meta app proves our address; empty where there is none."""
        secret: SecretStr | None = getattr(self.secrets, f"{kind}_verify_token", None)
        return secret.get_secret_value() if secret else ""

    def own_account(self, kind: str) -> Mapping[str, str]:
        """Return what connects the installation's own account of a kind, empty unless all of it is set."""
        given = {name: getattr(self.secrets, f"{kind}_{name}") for name in _OWN_ACCOUNT.get(kind, ())}
        if not given or None in given.values() or not self.app_secret(kind):
            return {}
        values = {
            name: getattr(value, "get_secret_value", lambda value=value: value)() for name, value in given.items()
        }
        return {**values, "app_secret": ""}


def read_settings(
    config_file: Path = ROOT / "config.toml",
    *,
    environment: Mapping[str, str] | None = None,
    env_file: Path | None = ROOT / ".env",
) -> Settings:
    """Read and check the whole configuration.

    Raises :class:`SettingsError` naming every fault. Empty environment values count as not set.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    try:
        values = tomllib.loads(_text(config_file))
    except FileNotFoundError:
        faults.append(f"{config_file.name}: the file is missing; restore it from the repository")
    except SettingsError as error:
        faults += error.lines
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{config_file.name}: {error}")
    if values.pop("secrets", None) is not None:
        faults.append(f"{config_file.name}: secrets belong into the environment or .env, not into this file")

    own = {} if env_file is None else _env(env_file, faults)
    process = os.environ if environment is None else environment
    known = (*_ENVIRONMENT, *_KNOWN_LATER, "RENDER_EXTERNAL_URL")
    own |= {name: process[name] for name in known if process.get(name)}
    if process.get("PORT") and "HOST" not in own:
        own["HOST"] = "0.0.0.0"  # noqa: S104 - a platform that sets PORT routes to it from outside the container
    own.setdefault("WEBHOOK_BASE_URL", own.pop("RENDER_EXTERNAL_URL", ""))
    secrets: dict[str, Any] = {}
    names: dict[tuple[str, ...], str] = {}
    for name, value in own.items():
        if not value or name not in _ENVIRONMENT:
            continue
        section, key = _ENVIRONMENT[name]
        if section:
            values.setdefault(section, {})
            if isinstance(values[section], dict):
                values[section][key] = value
        elif key not in secrets or name != "SESSION_SECRET":
            secrets[key] = value
        names[(section, key) if section else ("secrets", key)] = name
    try:
        settings = Settings.model_validate({**values, "secrets": secrets})
    except ValidationError as error:
        # All that is wrong at once, so that nobody has to start once for each fault.
        raise SettingsError([*faults, *(_fault(e, names, config_file.name) for e in error.errors())]) from None
    if faults:
        raise SettingsError(faults)
    settings._unused = tuple(sorted(_KNOWN_LATER & own.keys()))
    return settings


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SettingsError([f"{file.name}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError:
        raise SettingsError([f"{file.name}: is not UTF-8 text; save it as UTF-8"]) from None


def _env(file: Path, faults: list[str]) -> dict[str, str]:
    """Return what the lines of ``.env`` set, each value as it is written; what is wrong with them joins ``faults``."""
    own: dict[str, str] = {}
    try:
        text = _text(file)
    except FileNotFoundError:
        return own
    except SettingsError as error:
        faults += error.lines
        return own
    for binding in parse_stream(io.StringIO(text)):
        name, written = binding.key, binding.original.string
        if binding.error or (name is not None and binding.value is None):
            line = binding.original.line + written[: -len(written.lstrip())].count("\n")
            faults.append(f"{file.name}: line {line} must be written NAME=value")
        elif name is None:
            continue
        elif name not in _ENVIRONMENT and name not in _KNOWN_LATER:
            hint = difflib.get_close_matches(name, [*_ENVIRONMENT, *_KNOWN_LATER], 1)
            faults.append(f"{file.name}: {name} is not a setting" + (f"; did you mean {hint[0]}?" if hint else ""))
        elif binding.value:
            own[name] = binding.value
    return own


def _fault(error: Any, names: Mapping[tuple[str, ...], str], file: str) -> str:
    """One line for one fault. Never prints the value: it may be a secret."""
    place = tuple(str(part) for part in error["loc"])
    where = names.get(place[:2]) or f"{file}: " + ".".join(place)
    if error["type"] == "extra_forbidden":
        section = Settings.model_fields.get(place[0])
        known = list(Settings.model_fields) if len(place) == 1 else []
        if len(place) == 2 and section is not None and isinstance(section.annotation, type):
            known = list(getattr(section.annotation, "model_fields", {}))
        hint = difflib.get_close_matches(place[-1], known, 1)
        return f"{where} is not a setting" + (f"; did you mean {hint[0]}?" if hint else "")
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"
