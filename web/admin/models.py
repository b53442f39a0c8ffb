"""Which models do what, the keys they are asked with, what they cost, and how much of it is allowed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from aiohttp import web

from db import models
from services import budgets, days, key_checks, overrides
from services.ai import NAMES, PROVIDERS
from services.errors import AppError, NotFound
from services.i18n import T
from web import auth, forms, view
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_CHAIN_CHARS = 2000
ROLES = {
    "fast": T("Answers quickly and cheaply"),
    "balanced": T("Answers well at a middle price"),
    "strong": T("Answers best and costs most"),
    "transcribe": T("Writes voice messages down"),
    "vision": T("Looks at pictures and scans"),
}
"""What the roles of ``config.toml`` are for; others are shown by their name."""


def _outcome(call: models.AIUsage, language: str) -> str:
    word = key_checks.outcome(call.outcome, call.http_status)
    return key_checks.OUTCOMES[word].render(language) if word in key_checks.OUTCOMES else word


@routes.get("/admin/models")
async def page(request: web.Request) -> web.StreamResponse:
    """Show the models, keys and costs."""
    administrator(request)
    return await _page(request)


async def _page(
    request: web.Request, error: AppError | None = None, typed: dict[str, str] | None = None
) -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    async with core.db.read() as session:
        shared = await frame(session, request)
        chosen = await overrides.all_of(session)
        health = await overrides.health(session, core.now())
        checks = await key_checks.last(session, core.now())
        today = days.today(core.now())
        costs = {
            "day": {kind: facts.cost_usd for kind, facts in health.items()},
            "month": await overrides.costs(session, budgets.days_of("month", today)),
        }
    settings = core.settings
    keys: list[dict[str, Any]] = []
    for kind in PROVIDERS:
        key = settings.model_key(kind)
        state = core.router.state(kind, settings.ai.role)
        facts = health[kind]
        keys.append(
            {
                "kind": kind,
                "name": NAMES[kind],
                "last4": key[-4:] if key else "",
                "off": kind in core.keys_off,
                "state": facts.trouble if key and state == "configured" and facts.trouble else state,
                "health": facts,
                "check": checks.get(kind),
            }
        )
    prices = []
    for name, provider in overrides.in_use(settings):
        rates, source = core.router.prices.shown(provider, name)
        key = f"{overrides.PRICE}{name}"
        prices.append({"model": name, "provider": provider, "rates": rates, "source": source, "own": key in chosen})
    return view.render(
        request,
        "admin/models.html",
        status=error.status if error else 200,
        here="admin-models",
        keys=keys,
        ai=settings.ai,
        role_names=ROLES,
        outcome=_outcome,
        chains={
            role: ("\n".join(chain), f"{overrides.CHAIN}{role}" in chosen) for role, chain in settings.ai.roles.items()
        },
        own_role=overrides.ROLE in chosen,
        embedding=settings.knowledge.embedding,
        embedding_model=core.embedder.model if core.embedder else "",
        prices=prices,
        budget=settings.limits.owner_cost_usd_per_day,
        own_budget=overrides.OWNER_BUDGET in chosen,
        budgets=[
            (budgets.key(each.span, each.provider), budgets.name(each.span, each.provider, language), each)
            for each in budgets.standings(budgets.limits(chosen), costs)
        ],
        budgets_out=core.budgets.out,
        today=sum((facts.cost_usd for facts in health.values()), start=Decimal(0)),
        month=sum((facts.month_usd for facts in health.values()), start=Decimal(0)),
        typed=typed or {},
        seen=lambda key: overrides.mark(core.chosen, key),
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/admin/models/check")
async def check(request: web.Request) -> web.StreamResponse:
    """Ask a provider now whether it answers to the installation's key. Field: ``provider``."""
    person, core, form = administrator(request), core_of(request), await forms.read(request)
    try:
        await key_checks.check(core, person, form.text("provider", 32))
    except AppError as error:
        if error.status == 404:
            raise
        return await _page(request, error)
    return view.redirect("/admin/models", toast="key_checked")


@routes.post("/admin/models/budgets")
async def choose_budgets(request: web.Request) -> web.StreamResponse:
    """Set what all providers and each may cost a day and a month.

    Fields: by :func:`services.budgets.key`, empty: no budget; each also with ``was-`` before its name: what the form showed.
    """
    person, core, form = administrator(request), core_of(request), await forms.read(request)
    typed = {name: value[:20] for name, value in form.fields.items() if name.startswith(budgets.BUDGET)}
    was = {name: form.fields[f"was-{name}"][:20] for name in typed if f"was-{name}" in form.fields}
    try:
        async with core.db.write() as session:
            await overrides.choose_budgets(session, person, typed, now=core.now(), was=was)
    except AppError as error:
        # What was not touched is shown as it is now.
        touched = {name: value for name, value in typed.items() if value != was.get(name)}
        return await _page(request, error, {**dict.fromkeys(("role", "model", "chain", "owner"), ""), **touched})
    await overrides.take_effect(core)
    core.bell.ring_elsewhere(overrides.BELL)
    return view.redirect("/admin/models", toast="models_saved")


@routes.post("/admin/models/{what:answering|chain|key|price|budget}")
async def choose(request: web.Request) -> web.StreamResponse:
    """Choose something instead of ``config.toml``, or with the field ``back`` what it says again.

    Fields: ``role``; of a chain also ``chain``; of a key ``provider`` and ``on``; of a price ``model``, ``in``, ``out`` and
    ``cached``; of a budget ``owner``. ``seen``: the mark of what the page showed.
    """
    person, core = administrator(request), core_of(request)
    form, what, now = await forms.read(request), request.match_info["what"], core.now()
    role, model, provider = form.text("role", 64), form.text("model", 100), form.text("provider", 32)
    field = {name: form.fields.get(name, "")[:_CHAIN_CHARS] for name in ("chain", "in", "out", "cached", "owner")}
    seen, toast = form.fields.get("seen", ""), "models_saved"
    try:
        async with core.db.write() as session:
            if "back" in form.fields:
                toast = "models_back"
                keys = {
                    "answering": overrides.ROLE,
                    "chain": f"{overrides.CHAIN}{role}",
                    "price": f"{overrides.PRICE}{model}",
                    "budget": overrides.OWNER_BUDGET,
                }
                if what not in keys:
                    raise NotFound
                await overrides.back(session, person, keys[what], seen=seen)
            elif what == "answering":
                await overrides.choose_role(session, person, core.settings, role, now=now, seen=seen)
            elif what == "chain":
                await overrides.choose_chain(session, person, core.settings, role, field["chain"], now=now, seen=seen)
            elif what == "price":
                await overrides.choose_price(session, person, core.settings, model, field, now=now, seen=seen)
            elif what == "budget":
                await overrides.choose_budget(session, person, field["owner"], now=now, seen=seen)
            else:
                on = form.text("on") == "1"
                toast = "key_on" if on else "key_off"
                await overrides.switch_key(session, person, provider, on=on, now=now)
    except AppError as error:
        if error.status == 404:
            raise
        if error.status == 409:
            # What another chose stands beside what was typed, and the next press goes by it.
            await overrides.take_effect(core)
        return await _page(request, error, {**field, "role": role, "model": model})
    await overrides.take_effect(core)
    core.bell.ring_elsewhere(overrides.BELL)
    return view.redirect("/admin/models", toast=toast)
