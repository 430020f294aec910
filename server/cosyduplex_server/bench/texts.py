"""What the sessions say: answers as a voice agent gives them, cut into tokens as a model writes them."""

from __future__ import annotations

import math
import random
import re
from typing import Literal

# Characters of these sentences in a second of speech at a usual pace.
CHARS_PER_S = {"en": 15.0, "zh": 4.5}

_ENGLISH = """\
Sure, let me look into that for you.
I found three flights that leave before noon, and the cheapest one has a short stop on the way.
Of course!
That is a good question, and the honest answer is that it depends on how you plan to use it.
The package left our warehouse this morning, so it should arrive at your door by the end of the week.
If the light on the front keeps blinking, please unplug the cable, wait a moment, and plug it in again.
Thank you for waiting.
Most people find it easier to begin with the smaller room, because the paint dries faster there.
Would you like me to send the details to your phone, or shall I read them out slowly?
The meeting has moved to Thursday afternoon; everyone else has already agreed to the new time.
Well, first of all, check whether the door is really closed, since the machine will not start otherwise.
No problem at all.
In the old part of the town there is a quiet street with two small bakeries and a bookshop that closes late.
I have noted your preference for a window seat, and the booking is confirmed.
"""

_CHINESE = """\
好的，我马上帮您查一下。
今天上午有三个航班，最便宜的那一班需要在中途停一次。
没问题！
这个问题问得很好，其实要看您打算怎么使用它。
您的包裹今天早上已经从仓库发出，预计这个周末之前就能送到。
如果前面的指示灯一直在闪，请先拔掉电源，稍等片刻，然后重新插上。
感谢您的耐心等待。
大多数人觉得从小房间开始会更容易，因为那里的油漆干得比较快。
需要我把详细信息发到您的手机上，还是慢慢念给您听？
会议改到了星期四下午，其他人都已经同意了新的时间。
首先请检查一下门有没有关好，不然机器是不会启动的。
当然可以。
老城区有一条安静的小街，那里有两家面包店，还有一家开到很晚的书店。
我已经记下您喜欢靠窗的座位，预订也已经确认了。
"""

_SENTENCES = {"en": _ENGLISH.splitlines(), "zh": _CHINESE.splitlines()}
_SEPARATOR = {"en": " ", "zh": ""}
_FULL_STOP = {"en": ".", "zh": "。"}
# About 4 letters or 1.5 CJK characters each, as the vocabularies of today's models have them.
_TOKEN = re.compile(r"[㐀-鿿]{1,2}| ?[A-Za-z]{1,5}|.", re.DOTALL)


def sample_seconds(rng: random.Random, low_s: float, high_s: float) -> float:
    """A length of speech: log-normal around the geometric mean of the bounds, which cut off 5 % of it."""
    if low_s == high_s:
        return low_s
    mu, sigma = math.log(low_s * high_s) / 2, math.log(high_s / low_s) / 4
    while True:
        seconds = rng.lognormvariate(mu, sigma)
        if low_s <= seconds <= high_s:
            return seconds


def sample_text(rng: random.Random, seconds: float, language: Literal["en", "zh"]) -> str:
    """Sentences of about so many seconds; the last one is cut short where it would be too long."""
    num_chars = max(2, round(seconds * CHARS_PER_S[language]))
    sentences, separator, stop = _SENTENCES[language], _SEPARATOR[language], _FULL_STOP[language]
    text = rng.choice(sentences)
    while len(text) < num_chars:
        text += separator + rng.choice(sentences)
    if len(text) == num_chars:
        return text
    kept = text[: num_chars - 1]
    if separator and text[num_chars - 1] != separator and separator in kept:
        kept = kept[: kept.rindex(separator)]
    return kept.rstrip(" ,.;!?，。；！？") + stop


def split_tokens(text: str) -> list[str]:
    """The text as a model would write it, piece by piece."""
    return _TOKEN.findall(text)
