"""Short questions of customers: things under their Russian or English names, and around them the words that tell who speaks."""

from __future__ import annotations

import pytest

from services.languages import detect, outweighs

UZBEK_CYRILLIC = """
кондиционер нархи | кондиционер борми | телевизор канча | ноутбук нархи канча | доставка нархи | доставка канча
доставка неча пул | стоматолог борми | врач канчага карайди | анализ нархи | УЗИ канча туради | массаж курси борми
холодильник керак | стиральная машина нархи | пылесос борми | рассрочкага берасизми | рассрочка борми | кредитга борми
гарантияси борми | гарантия канча | мастер чакириш | установка бепулми | установкаси канча | размери канака
размерлари борми | цвети кора борми | английский курс нархи | математика курси канча | репетитор керак | садик нархи
бассейн борми | парковка борми | оплата кандай килинади | скидка борми | скидкаси канча | адрес каерда | адресингиз каерда
локация ташланг | график канака | ишлаш вакти | прием качон | навбат борми | запись килмокчиман | номерингизни ёзинг
каталог ташланг | прайс ташланг | оптом нархи | оптом борми | штукаси канча | комплект нархи | чехол борми айфонга
ойнаси канча | зарядка борми | батарея нархи | тест топширмокчиман | сертификат борми | диплом берадими | логопед борми
имтихон качон | группада нечта бола | чегирма борми | имплант нархи | пломба канча | тиш олдириш нархи
брекет канча туради | цемент керак | электрик керакми | ортопед кабулига ёзилиш | педиатр бугун борми
ремонт киласизларми | карточкадан туласам буладими | наличкага чегирма | сотувда борми | нахт пулга канча
курьер качон келади | эртага очикми | якшанба ишлайсизми | микроволновка нархи | утюг борми | принтер канча туради
вентилятор керак | диван нархи канча | шкаф заказга киласизми | кроссовка борми | куртка нархи | духи борми | парфюм канча
торт заказ килса буладими | пицца нархи | плов борми | столик брон килмокчиман | номер нархи канча | гостиница каерда
виза канча вактда | билет нархи | тур нархи канча | страховка керакми | окулист борми | невропатолог качон келади
кардиолог кабули канча | рентген борми | прививка канча | гинеколог борми | косметолог хизмати нархи | маникюр нечи пул
стрижка канча | автошкола нархи | права олишга канча кетади | компьютер курси борми | рус тили курси | инглиз тили нархи
балетга кабул борми | каратэ тугараги | футбол секцияси борми | масло алмаштириш нархи | шина борми | аккумулятор канча
запчастлари борми | балон ямаш нархи | штраф текшириш | сантехник чакирсам буладими | обои нархи | краска борми
кафель канча туради | ламинат нархи кв | дверь нархи | окно заказ киламан | iphone 15 борми | Samsung кондиционер нархи
Artel нархи канча | wifi борми | IELTS курси нархи | LG телевизор борми | Nexia запчаст борми
"""
UZBEK = """
konditsioner narxi | kondisaner bormi | dostavka qancha | televizor nechi pul | xolodilnik kerak | pilesos bormi
stomatolog bormi | vrach qachon | analiz narxi | uzi qancha | massaj narxi | rassrochkaga berasizmi | ustanovka bepulmi
razmeri qanaqa | kurs narxi | repetitor kerak | skidka bormi | lokatsiya tashlang | grafik qanaqa | zaryadka bormi
chexol bormi | oplata qanday | katalog tashlang | prays tashlang | mikrovolnovka narxi | utyug bormi | printer necha pul
kuryer keladimi | garantiyasi bormi | noutbuk kerak | komplekti qancha | sertifikat berasizmi | shkaf zakazga
remont qilasizlarmi | optom narxi | akkumulyator bormi | plomba qancha | implant narxi | logoped bormi | karta orqali
delivery bormi | air conditioner narxi | iphone case bormi | discount bormi | english course narxi | free wifi bormi
manicure kerak
"""
RUSSIAN = """
кондиционер цена | цена на кондиционер | сколько стоит доставка | есть доставка | доставка бесплатная | телевизор есть
ноутбук в наличии | когда привезете | где вы находитесь | график работы | номер телефона | стоматолог есть
запись к врачу | цена анализов | узи сколько | массаж цена | холодильник нужен | рассрочка есть | в рассрочку можно
кредит есть | гарантия есть | гарантия сколько | мастера вызвать | установка бесплатно | какие размеры | есть черный
английский для детей | курсы математики | нужен репетитор | садик цена | есть парковка | как оплатить | скидки есть
скидка будет | адрес где | локацию скиньте | график какой | время работы | прием когда | можно записаться | очередь есть
каталог скиньте | прайс отправьте | оптом цена | штука сколько | чехол на айфон | стекло сколько | зарядка есть
сертификат дают | кто учитель | логопед нужен | когда экзамен | сколько детей в группе | имплант цена | пломба сколько
мосты ставите | брекеты цена | двери | шины есть | часы | услуги | деньги вернете | сапоги зимние | еда | вода есть
диван цена | ресторан открыт | чемодан есть | туфли женские | окна пластиковые | кухни на заказ | кеды есть | платья
цемент марки | электрик нужен | ремонт делаете | картой можно | за наличные скидка | курьер когда будет | завтра открыто
в воскресенье работаете | Artel цена | IELTS есть | Samsung холодильник сколько | wifi есть | LG телевизор в наличии
микроволновка цена | утюг есть | шкаф под заказ | торт на день рождения | плов есть | забронировать столик
номер на двоих | виза сколько делается | окулист принимает | компьютерные курсы | русский язык | балет для девочек
замена масла | аккумулятор цена | штрафы проверить | вызвать сантехника | сами заберем | цветами торгуете | всегда открыты
чай с лимоном
"""
OTHERS_WITH_A_WORD_OF_UZBEK = {
    "do you have plov kerak": "en",
    "what is narx": "en",
    "skolko stoit plov kerak": "ru",
    "сколько стоит плов керак": "ru",
    "что такое нархи": "ru",
}


def _questions(text: str) -> list[str]:
    return [question.strip() for line in text.strip().splitlines() for question in line.split("|")]


@pytest.mark.parametrize(
    ("language", "text"), [("uz-Cyrl", UZBEK_CYRILLIC), ("uz", UZBEK), ("ru", RUSSIAN)], ids=["uz-Cyrl", "uz", "ru"]
)
def test_the_words_around_decide_not_the_name_of_the_thing(language: str, text: str) -> None:
    assert {question: found for question in _questions(text) if (found := detect(question).language) != language} == {}


@pytest.mark.parametrize(("text", "language"), OTHERS_WITH_A_WORD_OF_UZBEK.items())
def test_beside_words_of_another_language_one_uzbek_word_decides_nothing(text: str, language: str) -> None:
    assert detect(text).language == language


@pytest.mark.parametrize("text", ["доставка канча", "стоматолог керакми", "оплата кандай"])
def test_a_talk_in_russian_goes_on_in_uzbek_when_asked_so(text: str) -> None:
    found = detect(text)
    assert found.language == "uz-Cyrl"
    assert outweighs(text, found, "ru")


RUSSIAN_ABOUT_PLACES = """
а доставка в Самарканд? | тур в Бухару | магазин на Чорсу | курс в Самарканде | а в Андижан? | доставка по Ташкенту
едете в Хиву? | есть филиал в Намангане? | метро Чиланзар | доставка Алмазар | Чиланзар где? | до Чирчика доставка сколько
"""
UZBEK_ABOUT_PLACES = """
Самаркандга борми | Ташкентга етказасизми | Чиланзарда борми | тур Бухара канча | филиал борми Навоида | билет Самарканд канча
доставка Самаркандга | хивага тур | Бухорога доставка борми
"""


@pytest.mark.parametrize(
    ("language", "text"), [("uz-Cyrl", UZBEK_ABOUT_PLACES), ("ru", RUSSIAN_ABOUT_PLACES)], ids=["uz-Cyrl", "ru"]
)
def test_names_of_places_do_not_decide(language: str, text: str) -> None:
    assert {question: found for question in _questions(text) if (found := detect(question).language) != language} == {}


@pytest.mark.parametrize("text", ["Самарканд?", "тур Самарканд Бухара", "филиал Ургенч"])
def test_a_talk_in_russian_does_not_end_with_the_name_of_a_place(text: str) -> None:
    assert not outweighs(text, detect(text), "ru")


@pytest.mark.parametrize("text", ["phone number?", "discount?", "good morning", "good evening", "location?"])
def test_english_that_only_its_speakers_write_begins_a_talk_in_english(text: str) -> None:
    assert outweighs(text, detect(text), None)


@pytest.mark.parametrize("text", ["power bank", "chicken burger", "Hugo Boss", "business lunch"])
def test_english_names_of_goods_begin_no_talk_in_english(text: str) -> None:
    assert not outweighs(text, detect(text), None)
