"""Units and currencies as they are abbreviated, and their Chinese names.

kg is 公斤 and km 公里, as in the news; 千克 would be heard as "thousand grams".
"""

LENGTHS = {
    "km": "公里",
    "m": "米",
    "dm": "分米",
    "cm": "厘米",
    "mm": "毫米",
    "μm": "微米",
    "µm": "微米",
    "um": "微米",
    "nm": "纳米",
    "ft": "英尺",
    "mi": "英里",
    "㎞": "公里",
    "㎝": "厘米",
    "㎜": "毫米",
}
_RATES = {
    "bps": "比特每秒",
    "Kbps": "千比特每秒",
    "kbps": "千比特每秒",
    "Mbps": "兆比特每秒",
    "Gbps": "吉比特每秒",
    "fps": "帧每秒",
    "rpm": "转每分钟",
    "bpm": "次每分钟",
    "mph": "英里每小时",
}
_SIZES = {f"{size}B": f"{size} B" for size in "KMGTP"}
_OTHERS = """
    kg 公斤  KG 公斤  Kg 公斤  ㎏ 公斤  g 克  mg 毫克  ㎎ 毫克  μg 微克  µg 微克  ug 微克  mcg 微克  t 吨
    lb 磅  lbs 磅  oz 盎司
    L 升  l 升  mL 毫升  ml 毫升  ML 毫升  ㎖ 毫升  dL 分升  dl 分升  μL 微升  µL 微升  cc 毫升  ㏄ 毫升
    ㎡ 平方米  ㎥ 立方米  ha 公顷
    s 秒  ms 毫秒  μs 微秒  µs 微秒  us 微秒  ns 纳秒  min 分钟  h 小时  hr 小时  hrs 小时
    Hz 赫兹  kHz 千赫  KHz 千赫  MHz 兆赫  GHz 吉赫  THz 太赫
    W 瓦  mW 毫瓦  kW 千瓦  KW 千瓦  MW 兆瓦  GW 吉瓦
    Wh 瓦时  kWh 千瓦时  KWh 千瓦时  kwh 千瓦时  MWh 兆瓦时  GWh 吉瓦时
    V 伏  mV 毫伏  kV 千伏  KV 千伏  mA 毫安  mAh 毫安时  mah 毫安时  Ah 安时
    Ω 欧姆  kΩ 千欧  KΩ 千欧  MΩ 兆欧
    J 焦耳  kJ 千焦  KJ 千焦  cal 卡  kcal 千卡
    Pa 帕  hPa 百帕  kPa 千帕  MPa 兆帕  GPa 吉帕  mmHg 毫米汞柱
    dB 分贝  lm 流明  lx 勒克斯  px 像素  bit 比特
    mol 摩尔  mmol 毫摩尔  μmol 微摩尔  µmol 微摩尔
    w 万
    RMB 元人民币  CNY 元人民币  USD 美元  EUR 欧元  GBP 英镑  JPY 日元  HKD 港元  TWD 新台币  KRW 韩元
    SGD 新加坡元  AUD 澳元  CAD 加元
"""


def _pairs(table: str) -> dict[str, str]:
    words = table.split()
    return dict(zip(words[::2], words[1::2], strict=True))


UNITS = LENGTHS | _RATES | _SIZES | _pairs(_OTHERS)
# What a measure may be per: km/h, mg/dL, m³/d.
PER_UNITS = {unit: name for unit, name in UNITS.items() if unit not in _RATES} | {
    "d": "天",
    "day": "天",
    "yr": "年",
}

CURRENCIES = {
    "¥": "元",
    "￥": "元",
    "$": "美元",
    "＄": "美元",
    "€": "欧元",
    "£": "英镑",
    "₩": "韩元",
    "₹": "卢比",
    "₽": "卢布",
    "฿": "泰铢",
    "US$": "美元",
    "USD": "美元",
    "HK$": "港元",
    "HKD": "港元",
    "NT$": "新台币",
    "A$": "澳元",
    "AU$": "澳元",
    "C$": "加元",
    "CA$": "加元",
    "S$": "新加坡元",
    "R$": "雷亚尔",
    "RMB": "元人民币",
    "CNY": "元人民币",
    "EUR": "欧元",
    "GBP": "英镑",
    "JPY": "日元",
}
LATIN_SCALES = {
    "K": 10**3,
    "k": 10**3,
    "M": 10**6,
    "m": 10**6,
    "B": 10**9,
    "b": 10**9,
    "T": 10**12,
    "bn": 10**9,
    "mn": 10**6,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
