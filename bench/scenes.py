"""What people say in the installation of :mod:`bench.installation`. Everybody is invented, and so is every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scene:
    """A conversation that a picture shows; ``minutes``: how long ago its last line was said.

    ``lines``: who (``customer``, ``bot``, ``unknown`` for a bot that did not know, ``operator``) and what.
    """

    name: str
    channel: str
    language: str
    minutes: int
    lines: Sequence[tuple[str, str]]
    status: str = "bot"
    reason: str | None = None


NEWCOMER, BROKEN = "Nur Gullari", "Silk Tour"
# Name, bot, days since registration, plan.
OWNERS: Sequence[tuple[str, str, float, str]] = (
    ("Bobur Aliyev", NEWCOMER, 1, ""),
    ("Malika Yo‘ldosheva", "Chinor Stomatologiya", 236, "premium"),
    ("Sherzod Qodirov", "Tezkor Avto", 171, "basic"),
    ("Nodira Sattorova", "Smart Academy", 128, "basic"),
    ("Timur Iskandarov", BROKEN, 94, "starter"),
    ("Gulnora Ergasheva", "Lola atelyesi", 87, "starter"),
    ("Otabek Tursunov", "Osh markazi", 76, "basic"),
    ("Feruza Nazarova", "Oq kabutar to‘yxonasi", 61, "basic"),
    ("Rustam Olimov", "Mebel Plyus", 52, "premium"),
    ("Laylo Hakimova", "Laylo Beauty", 44, "starter"),
    ("Kamron Saidov", "Saidov Fitness", 27, "starter"),
    ("Zarina Yunusova", "Bolajon bog‘chasi", 9, ""),
    ("Akmal Toirov", "Yangi Kanal", 30, ""),
)
TEAM = (("Dilnoza Yusupova", "manager", 96), ("Sardor Umarov", "operator", 41))

PROMPTS = (
    "Siz Texno Savdo do‘konining yordamchisisiz. Xushmuomala bo‘ling.",
    "Siz Texno Savdo do‘konining yordamchisisiz. Xushmuomala bo‘ling, qisqa yozing. Narxni doim so‘mda ayting.",
)
PROMPT = (
    "Siz Texno Savdo do‘konining yordamchisisiz. Xushmuomala bo‘ling, qisqa yozing. Narxni doim so‘mda ayting.\n"
    "Muddatli to‘lov so‘ralsa, shartlarini aytib, telefon raqamini qoldirishni taklif qiling.\n"
    "Chegirma va’da qilmang: bunday savolni operatorga o‘tkazing."
)
GREETING = "Assalomu alaykum! Men {name} yordamchisiman. Telefon, maishiy texnika va yetkazib berish haqida so‘rang 😊"
REPAIRS = """Ta’mirlash narxlari

Telefon ekranini almashtirish: 350 000 so‘mdan, 1 soatda.
Batareya almashtirish: 180 000 so‘mdan, 30 daqiqada.
Konditsionerni tozalash: 150 000 so‘m, uyga borib.
Diagnostika bepul. Ish vaqti: dushanba–shanba, 9:00–19:00.
"""

CHANNELS: Mapping[str, int] = {"telegram": 46, "instagram": 25, "whatsapp": 19, "web": 10}
LANGUAGES: Mapping[str, int] = {"uz": 55, "ru": 27, "uz-Cyrl": 8, "en": 10}
NAMES: Mapping[str, Sequence[str]] = {
    "uz": ("Shahnoza", "Bekzod", "Madina", "Jahongir", "Sevara", "Doston", "Nigora", "Ulug‘bek", "Iroda", "Sanjar"),
    "ru": ("Ольга", "Дмитрий", "Камила", "Руслан", "Светлана", "Тимур", "Алина", "Виктор"),
    "uz-Cyrl": ("Нодира", "Ўткир", "Гулбаҳор", "Хуршид"),
    "en": ("Emma", "James", "Priya", "Lucas"),
}
FAMILIES: Mapping[str, Sequence[str]] = {
    "uz": ("Rahimova", "To‘xtayev", "Ismoilova", "Abdullayev", "Mirzayeva", "Sobirov", "Xolmatova"),
    "ru": ("Ким", "Пак", "Цой", "Ли"),
    "uz-Cyrl": ("Каримова", "Собиров", "Ҳамидов"),
    "en": ("Brown", "Miller", "Shah"),
}
UNKNOWN: Mapping[str, str] = {
    "uz": "Kechirasiz, bu haqda ma’lumotim yo‘q. Operatorni chaqirish uchun /operator deb yozing.",
    "ru": "Извините, об этом у меня нет сведений. Напишите /operator, чтобы позвать человека.",
    "uz-Cyrl": "Кечирасиз, бу ҳақда маълумотим йўқ. Операторни чақириш учун /operator деб ёзинг.",
    "en": "Sorry, I have no information about that. Write /operator to call a person.",
}
PERSON: Mapping[str, str] = {
    "uz": "Assalomu alaykum, men Azizaman. Hozir aniqlab, yozaman.",
    "ru": "Здравствуйте, это Азиза. Сейчас уточню и напишу.",
    "uz-Cyrl": "Ассалому алайкум, мен Азизаман. Ҳозир аниқлаб, ёзаман.",
    "en": "Hello, this is Aziza. Let me check and come back to you.",
}
PAIRS: Mapping[str, Sequence[tuple[str, str]]] = {
    "uz": (
        (
            "Yetkazib berish bormi?",
            "Ha, Toshkent bo‘ylab 14:00 gacha buyurtma qilsangiz, o‘sha kuni bepul yetkazamiz 🚚",
        ),
        ("iPhone 15 narxi qancha?", "iPhone 15 256 GB — 11 900 000 so‘m. Pushti va ko‘k ranglari bor."),
        ("Muddatli to‘lovga olsa bo‘ladimi?", "Ha, 3, 6 yoki 12 oyga. 3 oyga ustama yo‘q, pasport kifoya."),
        ("Ish vaqtingiz qanday?", "Har kuni 10:00 dan 19:00 gacha, dushanba — dam olish kuni."),
        ("Kafolat bormi?", "Telefonlarga 12 oy, maishiy texnikaga 24 oy kafolat beramiz."),
        ("Manzilingiz qayerda?", "Toshkent, Malika bozori, B-214 pavilyon."),
        ("Konditsioner o‘rnatish qancha?", "Artel 12 konditsionerini o‘rnatish 600 000 so‘m."),
        ("Eski telefonimni almashtirsa bo‘ladimi?", "Ha, iPhone va Samsung’ni qabul qilamiz. Baholash 15 daqiqa."),
    ),
    "ru": (
        ("Есть доставка в Самарканд?", "Да, в областные центры доставляем за 2–4 дня, 45 000 сум до 5 кг."),
        ("Сколько стоит Redmi Note 13?", "Redmi Note 13 8/256 ГБ — 2 690 000 сум, есть зелёный и чёрный."),
        ("Можно в рассрочку?", "Да, на 3, 6 или 12 месяцев. На 3 месяца без наценки, нужен паспорт."),
        ("Какая гарантия?", "На смартфоны 12 месяцев, на бытовую технику 24 месяца."),
        ("Как вернуть товар?", "В течение 10 дней, если сохранены упаковка, чек и пломбы."),
        ("До скольки работаете?", "С 10:00 до 19:00, понедельник — выходной."),
    ),
    "uz-Cyrl": (
        ("Кир ювиш машинаси борми?", "Ҳа, Artel 7 кг — 3 600 000 сўм, инвертор мотор, 15 дастур."),
        ("Етказиб бериш неча кун?", "Тошкентда ўша куни, вилоятларга 2–4 кун."),
        ("Кафолат қанча?", "Маиший техникага 24 ой."),
    ),
    "en": (
        ("Do you deliver to Samarkand?", "Yes, within 2–4 days, 45 000 so‘m for a parcel up to 5 kg."),
        ("How much is AirPods Pro 2?", "AirPods Pro 2 cost 2 900 000 so‘m."),
        ("Is the IMEI registered?", "Yes, all our phones are sold with a registered IMEI."),
    ),
}
SOURCES: Sequence[Mapping[str, Any]] = (
    {
        "document_id": "x",
        "document_name": "Narxlar.csv",
        "snippet": "iPhone 15 256GB, 11 900 000, USB-C",
        "score": 0.86,
    },
)
TALKS: Sequence[Scene] = (
    Scene(
        "Shahnoza Rahimova",
        "telegram",
        "uz",
        3,
        (
            ("customer", "Assalomu alaykum! iPhone 15 bormi, narxi qancha?"),
            (
                "bot",
                "Va alaykum assalom! Ha, iPhone 15 256 GB bor — 11 900 000 so‘m. Pushti va ko‘k ranglari mavjud 😊",
            ),
            ("customer", "Muddatli to‘lovga olsa bo‘ladimi?"),
            (
                "bot",
                "Ha, 3, 6 yoki 12 oyga. 3 oyga ustama yo‘q, 6 oyga 15 %, 12 oyga 30 %. Faqat pasport kerak bo‘ladi.",
            ),
            ("customer", "Ikkita olsam chegirma bo‘ladimi? Operator bilan gaplashmoqchiman"),
            ("bot", "Savolingizni operatorga yetkazdim, tez orada yozadi 🙂"),
            ("customer", "Kutyapman, rahmat"),
        ),
        "waiting",
        "asked",
    ),
    Scene(
        "Дмитрий Пак",
        "whatsapp",
        "ru",
        11,
        (
            ("customer", "Здравствуйте, доставите стиральную машину в Чирчик?"),
            ("bot", "Здравствуйте! В областные центры доставляем за 2–4 дня. Крупную технику — до подъезда."),
            ("customer", "А подъём на 4 этаж?"),
            ("bot", "Подъём без лифта — 20 000 сум за этаж."),
            ("customer", "Понятно, спасибо!"),
        ),
    ),
    Scene(
        "sevara.style",
        "instagram",
        "uz",
        24,
        (
            ("customer", "AirPods Pro bormi?"),
            ("bot", "Ha, AirPods Pro 2 bor — 2 900 000 so‘m, oq rangda."),
            ("customer", "Sovg‘a qutisiga solib berasizlarmi?"),
            ("unknown", "Kechirasiz, bu haqda ma’lumotim yo‘q. Operatorni chaqirish uchun /operator deb yozing."),
            ("customer", "Ertaga kelaman, bir qarab qo‘ysangiz"),
        ),
        "waiting",
        "gave_up",
    ),
    Scene(
        "Нодира Каримова",
        "telegram",
        "uz-Cyrl",
        38,
        (
            ("customer", "Кондиционер ўрнатиш нархи қанча?"),
            ("bot", "Artel 12 кондиционерини ўрнатиш 600 000 сўм."),
            ("customer", "Раҳмат!"),
        ),
    ),
    Scene(
        "Jahongir To‘xtayev",
        "telegram",
        "uz",
        52,
        (
            ("customer", "Kecha olgan noutbukim yoqilmayapti"),
            ("unknown", "Kechirasiz, bu haqda ma’lumotim yo‘q. Operatorni chaqirish uchun /operator deb yozing."),
            ("operator", "Assalomu alaykum, men Azizaman. Bugun 18:00 gacha olib kelsangiz, ustamiz ko‘rib beradi."),
            ("customer", "Xo‘p, soat 5 larda boraman"),
            ("operator", "Kutamiz, chekni ham oling 🙏"),
        ),
        "human",
    ),
    Scene(
        "Emma Brown",
        "web",
        "en",
        66,
        (
            ("customer", "Do you deliver to Samarkand?"),
            ("bot", "Yes, within 2–4 days. A parcel up to 5 kg costs 45 000 so‘m."),
            ("customer", "Great, thanks"),
        ),
    ),
    Scene(
        "Светлана Ким",
        "instagram",
        "ru",
        78,
        (
            ("customer", "Какая рассрочка на Samsung S24?"),
            ("bot", "На 3 месяца без наценки, на 6 — 15 %, на 12 — 30 %. Samsung S24 стоит 9 800 000 сум."),
        ),
    ),
)
LABELS = (("Ulgurji", 2), ("Muddatli to‘lov", 4), ("Shikoyat", 1), ("Doimiy mijoz", 3))
NOTE = "Ikkita olsa, 3 % chegirma berish mumkin. Juma kuni do‘konga keladi."
READY: Mapping[str, str] = {
    "manzil": "Toshkent, Malika bozori, B-214 pavilyon. Mo‘ljal: shimoliy darvoza.",
    "nasiya": "3, 6 yoki 12 oyga beramiz, pasport kifoya. Telefon raqamingizni yozib qoldiring.",
    "rahmat": "Xaridingiz uchun rahmat! Savol bo‘lsa, shu yerga yozing 😊",
    "karta": "To‘lovni Uzcard, Humo yoki naqd pulda qabul qilamiz.",
}
UNANSWERED = (
    ("Sovg‘a qutisiga solib berasizlarmi?", "uz", 7),
    ("Есть ли у вас подарочные карты?", "ru", 5),
    ("Playstation 5 bormi?", "uz", 4),
    ("Yuridik shaxslarga shartnoma tuzasizlarmi?", "uz", 3),
    ("Do you have a shop in Bukhara?", "en", 2),
    ("Эски телевизорни олиб кетасизларми?", "uz-Cyrl", 1),
)
TAUGHT = (
    ("Karta bilan to‘lasa bo‘ladimi?", "Ha, Uzcard, Humo, Visa va Mastercard qabul qilamiz."),
    ("Avtoturargoh bormi?", "Ha, bozorning shimoliy darvozasi oldida bepul turargoh bor."),
    ("Qutisi ochilgan telefonni sotasizlarmi?", "Yo‘q, faqat yangi va muhri buzilmagan telefonlarni sotamiz."),
)
TESTS = (
    ("Toshkentga yetkazib berish qancha turadi?", "bepul", "Toshkent bo‘ylab yetkazib berish bepul 🚚"),
    ("iPhone 13 narxi qancha?", "7 400 000", "iPhone 13 128 GB — 7 400 000 so‘m."),
    ("Telefonga kafolat bormi?", "12 oy", "Ha, smartfonlarga 12 oy kafolat beramiz."),
    ("Можно вернуть наушники?", "не подлежат", "Наушники обмену и возврату не подлежат."),
    ("Dushanba kuni ishlaysizlarmi?", "dam olish", "Yo‘q, dushanba — dam olish kuni."),
)
NEWS = (
    "Kuzgi chegirmalar",
    "Kuz keldi — narxlar tushdi! 🍂\nShu hafta konditsioner va changyutgichlarga 10 % chegirma. Savolingizni shu yerga yozing.",
    "Осень пришла — цены упали! 🍂\nНа этой неделе скидка 10 % на кондиционеры и пылесосы. Пишите вопросы прямо сюда.",
    "Endi 3 oylik muddatli to‘lovga ustama yo‘q. Pasport kifoya, 10 daqiqada rasmiylashtiramiz 📱",
)
WISHES = (
    "To‘lovni hisob raqami orqali qilmoqchimiz, shartnoma kerak.",
    "Filialimiz ham bor, ikkita bot kerak bo‘ladi.",
    "Avval bir oy sinab ko‘rmoqchiman.",
)
EVENTS = ("message.received", "message.received", "message.answered", "contact.created", "conversation.waiting")
# Whether an administrator said it, and what.
SUPPORT: Sequence[Sequence[tuple[bool, str]]] = (
    (
        (False, "Salom! Instagramda izohlarga ham bot javob bersin desam, nima qilishim kerak?"),
        (True, "Assalomu alaykum, Aziza opa! Kanallar sahifasida Instagram ostidagi belgini qo‘ying."),
        (False, "Topdim, ishladi. Rahmat katta!"),
        (True, "Marhamat! Yana savol bo‘lsa, shu yerga yozing 🙂"),
    ),
    ((False, "Здравствуйте! Можно оплатить сразу за год по счёту?"),),
    ((False, "Tarifni o‘zgartirsam, qolgan kunlarim nima bo‘ladi?"),),
    (
        (False, "WhatsApp raqamini almashtirdik, qayta ulash kerakmi?"),
        (True, "Ha, yangi raqamning tokenini kiriting, suhbatlar o‘z joyida qoladi."),
    ),
)
ANNOUNCEMENTS: Sequence[tuple[Mapping[str, Mapping[str, str]], str]] = (
    (
        {
            "uz": {"title": "Endi Instagram izohlariga ham javob beriladi", "text": "Kanallar sahifasida yoqing."},
            "ru": {"title": "Бот отвечает и на комментарии Instagram", "text": "Включите это на странице каналов."},
            "en": {"title": "Comments on Instagram are answered too", "text": "Turn it on, on the page of channels."},
        },
        "done",
    ),
    (
        {
            "uz": {"title": "Yakshanba kechasi texnik ishlar", "text": "Soat 2 dan 3 gacha javoblar sekinroq keladi."},
            "ru": {"title": "Работы в ночь на воскресенье", "text": "С 2 до 3 часов ответы приходят медленнее."},
            "en": {"title": "Maintenance on Sunday night", "text": "From 2 to 3 answers take longer."},
        },
        "done",
    ),
    (
        {
            "uz": {"title": "Yangi yil oldidan chegirma", "text": "Yillik to‘lovga 20 % chegirma."},
            "ru": {"title": "Скидка перед Новым годом", "text": "20 % при оплате за год."},
            "en": {"title": "Before the New Year", "text": "20 % off when you pay for a year."},
        },
        "draft",
    ),
)
ERRORS = (
    ("error", "message_not_handled", "kind=telegram\nTimeoutError\nservices/worker.py:496 _talk", 3),
    ("warning", "model_call_failed", "provider=gemini outcome=busy", 41),
    ("warning", "endpoint_not_told", "status=503", 12),
)
# A part of a question in the test chat, and what the model says to it.
REPLIES: Mapping[str, str] = {
    "yetkaz": "Ha, Toshkent bo‘ylab yetkazib berish bepul: buyurtmani 14:00 gacha bersangiz, o‘sha kuni olib boramiz 🚚",
    "": "iPhone 15 256 GB — 11 900 000 so‘m. Pushti va ko‘k ranglari bor 😊",
}
