"""How English text with numbers, names, addresses and abbreviations in it is read aloud.

The readings come in the order in which they are tried, the particular before the general: an address before
the file name in it, a date before a range, a time before a ratio, a measure before a plain number. What can
be read piece by piece is: the sign, the dash of a range and the number after it are readings of their own,
each of which looks at what stands beside it, so that little text has to wait.
"""

from cosyduplex_server.text.english_addresses import ADDRESSES
from cosyduplex_server.text.english_calendar import CALENDAR
from cosyduplex_server.text.english_codes import CODES
from cosyduplex_server.text.english_measures import MEASURES
from cosyduplex_server.text.english_money import MONEY
from cosyduplex_server.text.english_names import NAMES
from cosyduplex_server.text.english_quantities import NUMBERS, SIZES
from cosyduplex_server.text.english_signs import SIGNS
from cosyduplex_server.text.english_words import ABBREVIATIONS, BETWEEN_WORDS, KEYS
from cosyduplex_server.text.reading import Reading

READINGS: tuple[Reading, ...] = (
    *KEYS,
    *ADDRESSES,
    *CODES,
    *CALENDAR,
    *MONEY,
    *SIZES,
    *MEASURES,
    *ABBREVIATIONS,
    *NAMES,
    *SIGNS,
    *BETWEEN_WORDS,
    *NUMBERS,
)
