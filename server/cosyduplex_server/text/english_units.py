"""Units of measure and of money: how they are written and what they are called."""

from dataclasses import dataclass

# Symbol: name of one, prefixes it is written with. A base that could be another thing stands nowhere alone.
_PREFIXED = {
    "m": ("meter", "k d c m µ n"),
    "g": ("gram", "k m µ"),
    "s": ("second", "m µ n p"),
    "Hz": ("hertz", "m k M G T"),
    "W": ("watt", "m k M G T"),
    "Wh": ("watt hour", "k M G T"),
    "V": ("volt", "µ m k M"),
    "VA": ("volt amp", "k M"),
    "A": ("amp", "µ m k"),
    "Ah": ("amp hour", "m"),
    "Ω": ("ohm", "m k M"),
    "F": ("farad", "p n µ"),
    "Pa": ("pascal", "h k M G"),
    "J": ("joule", "k M G"),
    "N": ("newton", "k M"),
    "cal": ("calorie", "k"),
    "eV": ("electron volt", "k M G T"),
    "mol": ("mole", "m µ n"),
    "l": ("liter", "m c d"),
    "L": ("liter", "m c d µ"),
    "B": ("byte", "k K M G T P"),
    "iB": ("bibyte", "K M G T"),
    "bit": ("bit", "k K M G T"),
    "bps": ("bit per second", "k K M G T"),
    "b": ("bit", "M G T"),
    "P": ("pixel", "M"),
}
_NO_BASE = frozenset("A F N B iB b P".split())
_PREFIXES = {
    "p": "pico",
    "n": "nano",
    "µ": "micro",
    "m": "milli",
    "c": "centi",
    "d": "deci",
    "h": "hecto",
    "k": "kilo",
    "K": "kilo",
    "M": "mega",
    "G": "giga",
    "T": "tera",
    "P": "peta",
}
_BINARY = {"Ki": "kibi", "Mi": "mebi", "Gi": "gibi", "Ti": "tebi"}

# Written: said, of one. Several forms may be written for one name; _ is a space.
_OTHERS = {
    "KM Km": "kilometer",
    "KG Kg kgs": "kilogram",
    "ML": "milliliter",
    "mcg ug": "microgram",
    "um": "micrometer",
    "us": "microsecond",
    "mb MBs": "megabyte",
    "kb": "kilobyte",
    "gb GBs": "gigabyte",
    "tb TBs": "terabyte",
    "mbps": "megabit per second",
    "mi": "mile",
    "ft": "foot",
    "in": "inch",
    "yd yds": "yard",
    "nmi": "nautical mile",
    "lb lbs": "pound",
    "oz": "ounce",
    "gal": "gallon",
    "tsp": "teaspoon",
    "tbsp": "tablespoon",
    "kΩ": "kilohm",
    "MΩ": "megohm",
    "ha": "hectare",
    "min mins": "minute",
    "h hr hrs": "hour",
    "sec secs": "second",
    "wk wks": "week",
    "mo mos": "month",
    "yr yrs": "year",
    "mph": "mile per hour",
    "kph kmh": "kilometer per hour",
    "rpm RPM": "revolution per minute",
    "bpm BPM": "beat per minute",
    "fps FPS": "frame per second",
    "dpi DPI": "dot per inch",
    "ppi PPI": "pixel per inch",
    "ppm": "part per million",
    "ppb": "part per billion",
    "psi": "pound per square inch",
    "px": "pixel",
    "pt": "point",
    "pp": "percentage point",
    "dB": "decibel",
    "dBA": "decibel A",
    "dBm": "decibel milliwatt",
    "mmHg": "millimeter of mercury",
    "hp": "horsepower",
    "°C ºC ℃ °c °_C º_C": "degree Celsius",
    "°F ºF ℉ °f °_F º_F": "degree Fahrenheit",
    "°": "degree",
    "°N": "degree north",
    "°S": "degree south",
    "°E": "degree east",
    "°W": "degree west",
    "%": "percent",
    "‰": "per mille",
    "¢": "cent",
    "′": "foot",
    "″": "inch",
}
_LENGTHS = {
    "km": "kilometer",
    "m": "meter",
    "dm": "decimeter",
    "cm": "centimeter",
    "mm": "millimeter",
    "ft": "foot",
    "in": "inch",
    "mi": "mile",
    "yd": "yard",
}
_UNCHANGED = frozenset(("hertz", "percent", "per mille", "horsepower"))
# In a name of several words the plural stands before these: "miles per hour", but "watt hours".
_QUALIFIERS = frozenset("per of A Celsius Fahrenheit north south east west squared".split())
_PLURALS = {"foot": "feet", "inch": "inches"}


def _plural(one: str) -> str:
    head, *rest = one.split(" ")
    if one in _UNCHANGED or head.endswith("hertz"):
        return one
    if rest and rest[0] not in _QUALIFIERS:
        return f"{head} {_plural(' '.join(rest))}"
    return " ".join((_PLURALS.get(head, head + "s"), *rest))


def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for symbol, (name, prefixes) in _PREFIXED.items():
        if symbol not in _NO_BASE:
            names[symbol] = name
        for prefix in prefixes.split():
            spoken = _BINARY[prefix + "i"] + "byte" if symbol == "iB" else _PREFIXES[prefix] + name
            for written in ("µ", "μ") if prefix == "µ" else (prefix,):
                names[written + symbol] = spoken
    for symbols, name in _OTHERS.items():
        names.update((written.replace("_", " "), name) for written in symbols.split())
    for symbol, name in _LENGTHS.items():
        names.update(
            dict.fromkeys((f"{symbol}²", f"{symbol}2", f"{symbol}^2", f"sq {symbol}"), f"square {name}")
        )
        names.update(
            dict.fromkeys((f"{symbol}³", f"{symbol}3", f"{symbol}^3", f"cu {symbol}"), f"cubic {name}")
        )
    names.update(dict.fromkeys(("sq. ft", "sqft"), "square foot"))
    names["fl oz"] = "fluid ounce"
    names.update(dict.fromkeys(("s²", "s^2"), "second squared"))
    return names


UNITS = _names()
_PLURAL_NAMES = {name: _plural(name) for name in UNITS.values()}
# Nobody writes these with a space before them, or they would be another word.
GLUED_UNITS = frozenset(("in", "′", "″"))


def unit_name(symbol: str, *, one: bool) -> str:
    """What a unit is called: "kilometer" or "kilometers"."""
    name = UNITS[symbol]
    return name if one else _PLURAL_NAMES[name]


@dataclass(frozen=True, slots=True)
class Currency:
    """What a currency and its hundredth are called, singular and plural; "" where no hundredths are said."""

    one: str
    many: str
    cent: str = "cent"
    cents: str = "cents"

    def name(self, *, one: bool) -> str:
        return self.one if one else self.many


def _dollars(kind: str) -> Currency:
    return Currency(f"{kind} dollar", f"{kind} dollars")


_POUNDS = Currency("pound", "pounds", "penny", "pence")
_EUROS = Currency("euro", "euros")
_YEN = Currency("yen", "yen", "", "")
_YUAN = Currency("yuan", "yuan", "", "")
_WON = Currency("won", "won", "", "")
_RUPEES = Currency("rupee", "rupees", "paisa", "paise")

SYMBOLS = {
    "$": Currency("dollar", "dollars"),
    "€": _EUROS,
    "£": _POUNDS,
    "¥": _YEN,
    "￥": _YEN,
    "CN¥": _YUAN,
    "₩": _WON,
    "₹": _RUPEES,
    "₽": Currency("ruble", "rubles", "kopeck", "kopecks"),
    "₿": Currency("bitcoin", "bitcoin", "", ""),
    "US$": _dollars("U S"),
    "A$": _dollars("Australian"),
    "AU$": _dollars("Australian"),
    "C$": _dollars("Canadian"),
    "CA$": _dollars("Canadian"),
    "HK$": _dollars("Hong Kong"),
    "NT$": _dollars("Taiwan"),
    "NZ$": _dollars("New Zealand"),
    "S$": _dollars("Singapore"),
    "R$": Currency("real", "reais", "centavo", "centavos"),
}
CODES = {
    "USD": _dollars("U S"),
    "EUR": _EUROS,
    "GBP": _POUNDS,
    "JPY": _YEN,
    "CNY": _YUAN,
    "RMB": _YUAN,
    "KRW": _WON,
    "INR": _RUPEES,
    "AUD": _dollars("Australian"),
    "CAD": _dollars("Canadian"),
    "HKD": _dollars("Hong Kong"),
    "SGD": _dollars("Singapore"),
    "NZD": _dollars("New Zealand"),
    "TWD": _dollars("Taiwan"),
    "CHF": Currency("Swiss franc", "Swiss francs", "centime", "centimes"),
    "SEK": Currency("Swedish krona", "Swedish kronor", "öre", "öre"),
    "NOK": Currency("Norwegian krone", "Norwegian kroner", "øre", "øre"),
    "DKK": Currency("Danish krone", "Danish kroner", "øre", "øre"),
    "BTC": Currency("bitcoin", "bitcoin", "", ""),
    "ETH": Currency("ether", "ether", "", ""),
}
SCALES = {
    "k": "thousand",
    "K": "thousand",
    "m": "million",
    "M": "million",
    "mn": "million",
    "mln": "million",
    "MM": "million",
    "b": "billion",
    "B": "billion",
    "bn": "billion",
    "Bn": "billion",
    "tn": "trillion",
    "T": "trillion",
    "thousand": "thousand",
    "million": "million",
    "billion": "billion",
    "trillion": "trillion",
}
