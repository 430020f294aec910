"""Short names of the emoji people use most, as one would mention them aloud: "thumbs up", "点赞"."""

from functools import cache

from cosyduplex_server.text.runs import Language

_NAMES = """
😀 grinning face|笑脸
😃 smiling face|笑脸
😄 smiling face|笑脸
😁 beaming face|露齿笑
😆 laughing|大笑
😅 nervous laugh|尴尬笑
🤣 rolling with laughter|笑翻了
😂 laughing with tears|笑哭
🙂 slight smile|微笑
🙃 upside-down smile|倒脸
🫠 melting face|融化
😉 wink|眨眼
😊 warm smile|微笑
😇 halo|天使
🥰 smile with hearts|喜爱
😍 heart eyes|爱心眼
🤩 star-struck|星星眼
😘 kiss|飞吻
😗 kiss|亲亲
😚 kiss|亲亲
😙 kiss|亲亲
🥲 smile with a tear|含泪笑
😋 yummy|好吃
😛 tongue out|吐舌头
😜 winking with tongue out|调皮
🤪 zany face|搞怪
😝 tongue out|吐舌头
🤑 money face|发财
🤗 hug|抱抱
🤭 giggle|偷笑
🫢 gasp|惊讶捂嘴
🫣 peeking|偷看
🤫 hush|嘘
🤔 thinking face|思考
🫡 salute|敬礼
🤐 zipped lips|闭嘴
🤨 raised eyebrow|质疑
😐 neutral face|面无表情
😑 blank face|无语
😶 speechless|沉默
😏 smirk|得意
😒 unamused|不爽
🙄 eye roll|翻白眼
😬 grimace|龇牙
🤥 lying face|说谎
😌 relief|欣慰
😔 pensive face|失落
😪 sleepy|困
🤤 drooling|流口水
😴 sleeping|睡觉
😷 face mask|口罩
🤒 fever|发烧
🤕 hurt|受伤
🤢 nauseated|恶心
🤮 vomiting|呕吐
🤧 sneeze|打喷嚏
🥵 hot|好热
🥶 freezing|好冷
🥴 dizzy|晕
😵 dizzy|晕
🤯 mind blown|震惊
🤠 cowboy|牛仔
🥳 party face|庆祝
🥸 disguise|伪装
😎 cool|酷
🤓 nerd face|书呆子
🧐 monocle|审视
😕 confused|困惑
😟 worried|担心
🙁 slight frown|不开心
☹ frown|不开心
😮 surprised|惊讶
😯 hushed|惊讶
😲 astonished|震惊
😳 blushing|脸红
🥺 pleading face|可怜巴巴
🥹 holding back tears|忍泪
😦 frown|皱眉
😧 anguished|痛苦
😨 fearful|害怕
😰 cold sweat|冷汗
😥 sad but relieved|难过
😢 crying|哭
😭 sobbing|大哭
😱 screaming|惊恐
😖 confounded|纠结
😣 struggling|忍耐
😞 disappointed|失望
😓 sweat|汗
😩 weary|疲惫
😫 tired|累
🥱 yawn|打哈欠
😤 huffing|不服气
😡 angry|愤怒
😠 angry|生气
🤬 cursing|骂人
😈 little devil|小恶魔
👿 angry devil|恶魔
💀 skull|骷髅
☠ skull and crossbones|骷髅
💩 poop|便便
🤡 clown|小丑
👻 ghost|幽灵
👽 alien|外星人
🤖 robot|机器人
😺 smiling cat|笑脸猫
🙈 see no evil|捂眼猴
🙉 hear no evil|捂耳猴
🙊 speak no evil|捂嘴猴
💋 kiss mark|唇印
💌 love letter|情书
💘 heart with arrow|一箭穿心
💝 heart with ribbon|爱心礼物
💖 sparkling heart|闪亮的心
💗 growing heart|心动
💓 beating heart|心跳
💞 revolving hearts|爱心
💕 two hearts|爱心
💔 broken heart|心碎
❣ heart|爱心
❤ red heart|红心
🧡 orange heart|橙心
💛 yellow heart|黄心
💚 green heart|绿心
💙 blue heart|蓝心
💜 purple heart|紫心
🖤 black heart|黑心
🤍 white heart|白心
🤎 brown heart|棕心
🩷 pink heart|粉心
💯 one hundred percent|满分
💢 anger|怒
💥 boom|爆炸
💫 dizzy star|星星
💦 splash|汗
💨 dash|跑
💣 bomb|炸弹
💬 speech bubble|对话
💭 thought bubble|想法
💤 sleeping|睡觉
👋 waving hand|挥手
🤚 raised hand|举手
🖐 open hand|手掌
✋ raised hand|举手
👌 okay hand|好的
🤌 pinched fingers|捏手指
🤏 pinching hand|一点点
✌ victory hand|胜利
🤞 fingers crossed|祈求好运
🫰 finger heart|比心
🤟 love you|爱你
🤘 rock on|摇滚
🤙 call me|打电话
👈 pointing left|指左
👉 pointing right|指右
👆 pointing up|指上
👇 pointing down|指下
☝ pointing up|指上
🫵 pointing at you|指着你
👍 thumbs up|点赞
👎 thumbs down|踩
✊ raised fist|举拳
👊 fist bump|碰拳
👏 applause|鼓掌
🙌 raised hands|欢呼
🫶 heart hands|比心
👐 open hands|张开双手
🤲 palms up|捧手
🤝 handshake|握手
🙏 folded hands|拜托
✍ writing hand|写字
💅 nail polish|美甲
💪 strong arm|加油
🧠 brain|大脑
🫀 heart organ|心脏
🦷 tooth|牙齿
👀 eyes|眼睛
👁 eye|眼睛
👅 tongue|舌头
👂 ear|耳朵
👃 nose|鼻子
👶 baby|宝宝
🧒 child|小孩
👦 boy|男孩
👧 girl|女孩
🧑 person|人
👨 man|男人
👩 woman|女人
👴 old man|爷爷
👵 old woman|奶奶
👮 police officer|警察
🙋 raising hand|举手
🤷 shrug|耸肩
🤦 facepalm|捂脸
🙇 bow|鞠躬
👪 family|一家人
💑 couple in love|情侣
🏃 runner|跑步
🚶 walking|走路
💃 dancing|跳舞
🕺 dancing|跳舞
🧘 meditation|冥想
👑 crown|皇冠
👓 glasses|眼镜
👗 dress|裙子
👟 sneaker|运动鞋
🎒 backpack|书包
🐶 dog|小狗
🐱 cat|小猫
🐭 mouse|老鼠
🐹 hamster|仓鼠
🐰 rabbit|兔子
🦊 fox|狐狸
🐻 bear|熊
🐼 panda|熊猫
🐨 koala|考拉
🐯 tiger|老虎
🦁 lion|狮子
🐮 cow|牛
🐷 pig|猪
🐸 frog|青蛙
🐵 monkey|猴子
🐔 chicken|鸡
🐧 penguin|企鹅
🐦 bird|小鸟
🦉 owl|猫头鹰
🦄 unicorn|独角兽
🐴 horse|马
🐝 bee|蜜蜂
🐛 bug|虫子
🪲 bug|虫子
🦋 butterfly|蝴蝶
🐢 turtle|乌龟
🐍 snake|蛇
🐉 dragon|龙
🐲 dragon|龙
🐳 whale|鲸鱼
🐬 dolphin|海豚
🐟 fish|鱼
🐘 elephant|大象
🌸 cherry blossom|樱花
🌹 rose|玫瑰
🥀 wilted flower|凋谢的花
🌻 sunflower|向日葵
🌷 tulip|郁金香
💐 bouquet|花束
🌱 seedling|幼苗
🌲 tree|树
🌳 tree|树
🌴 palm tree|棕榈树
🍀 four-leaf clover|四叶草
🍁 maple leaf|枫叶
🍂 fallen leaves|落叶
🌿 herb|绿叶
🍎 apple|苹果
🍊 orange|橘子
🍋 lemon|柠檬
🍌 banana|香蕉
🍉 watermelon|西瓜
🍇 grapes|葡萄
🍓 strawberry|草莓
🍑 peach|桃子
🍅 tomato|番茄
🥑 avocado|牛油果
🥕 carrot|胡萝卜
🌶 chili|辣椒
🍞 bread|面包
🧀 cheese|奶酪
🍔 burger|汉堡
🍟 fries|薯条
🍕 pizza|披萨
🌮 taco|塔可
🍜 noodles|面条
🍚 rice|米饭
🍣 sushi|寿司
🥟 dumpling|饺子
🍰 cake|蛋糕
🎂 birthday cake|生日蛋糕
🍪 cookie|饼干
🍫 chocolate|巧克力
🍭 lollipop|棒棒糖
☕ coffee|咖啡
🍵 tea|茶
🧋 bubble tea|奶茶
🍺 beer|啤酒
🍻 cheers|干杯
🥂 cheers|干杯
🍷 wine|红酒
🥤 soft drink|饮料
🌍 globe|地球
🌎 globe|地球
🌏 globe|地球
🌐 globe|地球
🗺 map|地图
🏠 house|房子
🏡 house|房子
🏢 office building|办公楼
🏥 hospital|医院
🏫 school|学校
🏦 bank|银行
🏔 mountain|雪山
🌋 volcano|火山
🏖 beach|海滩
🚗 car|汽车
🚕 taxi|出租车
🚌 bus|公交车
🚲 bicycle|自行车
🚄 train|高铁
🚆 train|火车
🚢 ship|轮船
✈ airplane|飞机
🚀 rocket|火箭
🛸 flying saucer|飞碟
⏰ alarm clock|闹钟
⏳ hourglass|沙漏
⌛ hourglass|沙漏
⏱ stopwatch|秒表
🕐 clock|时钟
🌙 moon|月亮
🌕 full moon|满月
☀ sun|太阳
🌞 sun|太阳
⭐ star|星星
🌟 glowing star|闪亮的星
✨ sparkles|闪亮
☁ cloud|云
⛅ partly cloudy|多云
🌧 rain|下雨
⛈ thunderstorm|雷雨
🌈 rainbow|彩虹
☔ umbrella|雨伞
⚡ lightning|闪电
❄ snowflake|雪花
⛄ snowman|雪人
🔥 fire|火
💧 droplet|水滴
🌊 wave|海浪
🎃 jack-o'-lantern|南瓜灯
🎄 Christmas tree|圣诞树
🎅 Santa|圣诞老人
🎆 fireworks|烟花
🧨 firecracker|鞭炮
🎈 balloon|气球
🎉 party popper|撒花
🎊 confetti|彩带
🎁 gift|礼物
🧧 red envelope|红包
🏮 lantern|灯笼
🎓 graduation cap|学士帽
🏆 trophy|奖杯
🏅 medal|奖牌
🥇 gold medal|金牌
🥈 silver medal|银牌
🥉 bronze medal|铜牌
⚽ soccer ball|足球
🏀 basketball|篮球
🏈 football|橄榄球
🎾 tennis|网球
🏓 ping pong|乒乓球
🎯 bullseye|靶心
🎮 video game|游戏
🎲 dice|骰子
🧩 puzzle piece|拼图
🎨 art palette|调色板
🎭 theater masks|戏剧
🎬 movie clapper|场记板
🎤 microphone|麦克风
🎧 headphones|耳机
🎵 music note|音符
🎶 music notes|音符
🎹 piano|钢琴
🎸 guitar|吉他
🥁 drum|鼓
🔊 loud speaker|大喇叭
🔇 muted|静音
📢 announcement|喇叭
📣 megaphone|喇叭
🔔 bell|铃铛
🔕 bell off|静音
📱 phone|手机
📞 telephone|电话
☎ telephone|电话
💻 laptop|电脑
🖥 computer|电脑
⌨ keyboard|键盘
💾 floppy disk|软盘
📷 camera|相机
📸 camera|相机
🎥 movie camera|摄像机
📺 television|电视
💡 light bulb|灯泡
🔦 flashlight|手电筒
📖 open book|书
📚 books|书
📓 notebook|笔记本
📝 memo|笔记
✏ pencil|铅笔
📄 page|文件
📃 page|文件
📑 bookmark tabs|标签
📰 newspaper|报纸
🔖 bookmark|书签
💰 money bag|钱袋
💵 cash|钞票
💳 credit card|信用卡
💎 gem|钻石
📧 email|邮件
✉ envelope|信封
📩 envelope|信封
📦 package|包裹
📅 calendar|日历
📆 calendar|日历
📈 rising chart|上涨
📉 falling chart|下跌
📊 bar chart|柱状图
📋 clipboard|剪贴板
📌 pushpin|图钉
📍 location pin|定位
📎 paperclip|回形针
✂ scissors|剪刀
📁 folder|文件夹
📂 folder|文件夹
🗑 trash can|垃圾桶
🔒 lock|锁
🔓 unlocked|开锁
🔑 key|钥匙
🔨 hammer|锤子
🔧 wrench|扳手
🛠 tools|工具
⚙ gear|齿轮
🔗 link|链接
🧪 test tube|试管
🔬 microscope|显微镜
🔭 telescope|望远镜
💊 pill|药片
💉 syringe|针筒
🧬 DNA|基因
🚪 door|门
🛏 bed|床
🛒 shopping cart|购物车
🧹 broom|扫帚
🔍 magnifying glass|放大镜
🔎 magnifying glass|放大镜
⚖ scales|天平
🛡 shield|盾牌
⚔ swords|剑
🚨 alarm|警报
🚧 construction|施工
🛑 stop sign|停止
⛔ no entry|禁止
🚫 prohibited|禁止
⚠ warning|警告
☢ radioactive|辐射
♻ recycling|回收
✅ check mark|对勾
☑ check mark|对勾
✔ check mark|对勾
❌ cross mark|叉
❎ cross mark|叉
✖ cross mark|叉
❓ question mark|问号
❔ question mark|问号
❗ exclamation mark|感叹号
❕ exclamation mark|感叹号
➡ right arrow|向右
⬅ left arrow|向左
⬆ up arrow|向上
⬇ down arrow|向下
🔄 refresh|刷新
🔁 repeat|循环
🔙 back|返回
🔝 top|置顶
🆕 new|新
🆒 cool|酷
🆓 free|免费
🆗 okay|好的
🆘 S O S|求救
🔴 red circle|红点
🟠 orange circle|橙点
🟡 yellow circle|黄点
🟢 green circle|绿点
🔵 blue circle|蓝点
🟣 purple circle|紫点
⚫ black circle|黑点
⚪ white circle|白点
🔺 up triangle|上三角
🔻 down triangle|下三角
🔶 orange diamond|橙色菱形
🔷 blue diamond|蓝色菱形
▶ play|播放
⏸ pause|暂停
⏹ stop|停止
⏭ next|下一首
🏁 finish flag|终点旗
🚩 red flag|红旗
🏳 white flag|白旗
🏴 black flag|黑旗
🏳\u200d🌈 rainbow flag|彩虹旗
👨\u200d👩\u200d👧 family|一家人
👨\u200d👩\u200d👦 family|一家人
👨\u200d👩\u200d👧\u200d👦 family|一家人
👨\u200d💻 programmer|程序员
👩\u200d💻 programmer|程序员
🧑\u200d💻 programmer|程序员
👨\u200d🏫 teacher|老师
👩\u200d🏫 teacher|老师
🧑\u200d🏫 teacher|老师
👨\u200d⚕ doctor|医生
👩\u200d⚕ doctor|医生
🧑\u200d⚕ doctor|医生
👨\u200d🍳 cook|厨师
👩\u200d🍳 cook|厨师
👨\u200d🔬 scientist|科学家
👩\u200d🔬 scientist|科学家
👨\u200d🎓 graduate|毕业生
👩\u200d🎓 graduate|毕业生
👨\u200d🚀 astronaut|宇航员
👩\u200d🚀 astronaut|宇航员
❤\u200d🔥 heart on fire|燃烧的心
❤\u200d🩹 mending heart|治愈的心
😶\u200d🌫 face in clouds|迷茫
😮\u200d💨 sigh|叹气
😵\u200d💫 dizzy|晕
"""

_FLAGS = """
AE United Arab Emirates|阿联酋
AR Argentina|阿根廷
AT Austria|奥地利
AU Australia|澳大利亚
BE Belgium|比利时
BR Brazil|巴西
CA Canada|加拿大
CH Switzerland|瑞士
CL Chile|智利
CN China|中国
CO Colombia|哥伦比亚
CZ Czech|捷克
DE Germany|德国
DK Denmark|丹麦
EG Egypt|埃及
ES Spain|西班牙
EU European Union|欧盟
FI Finland|芬兰
FR France|法国
GB United Kingdom|英国
GR Greece|希腊
HK Hong Kong|香港
HU Hungary|匈牙利
ID Indonesia|印度尼西亚
IE Ireland|爱尔兰
IL Israel|以色列
IN India|印度
IR Iran|伊朗
IT Italy|意大利
JP Japan|日本
KE Kenya|肯尼亚
KP North Korea|朝鲜
KR South Korea|韩国
MO Macao|澳门
MX Mexico|墨西哥
MY Malaysia|马来西亚
NG Nigeria|尼日利亚
NL Netherlands|荷兰
NO Norway|挪威
NZ New Zealand|新西兰
PH Philippines|菲律宾
PK Pakistan|巴基斯坦
PL Poland|波兰
PT Portugal|葡萄牙
RU Russia|俄罗斯
SA Saudi Arabia|沙特阿拉伯
SE Sweden|瑞典
SG Singapore|新加坡
TH Thailand|泰国
TR Turkey|土耳其
TW Taiwan|台湾
UA Ukraine|乌克兰
US United States|美国
VN Vietnam|越南
ZA South Africa|南非
"""
# Flags that are not of states.
_REGIONS = frozenset(("EU", "HK", "MO", "TW"))
_SIGNS: dict[str, dict[Language, str]] = {
    "#": {"en": "pound sign", "zh": "井号"},
    "*": {"en": "star", "zh": "星号"},
}
_FIRST_REGIONAL = 0x1F1E6

# What turns one emoji into a variant of itself: presentation, skin, hair, gender.
_VARIANTS = dict.fromkeys([0xFE0E, 0xFE0F, *range(0x1F3FB, 0x1F400)])
_ENDINGS = ("\u200d♂", "\u200d♀", "\u200d🦰", "\u200d🦱", "\u200d🦲", "\u200d🦳")


def emoji_name(sequence: str, language: Language) -> str | None:
    """The name of one emoji, None of one that is seldom used; skin and gender are not mentioned.

    Args:
        sequence: All code points of it: with variation selector, skin, joined parts.
        language: Of the name.
    """
    if sequence.endswith("\u20e3"):
        sign = _SIGNS.get(sequence[0])
        return sign[language] if sign else sequence[0]
    plain = sequence.translate(_VARIANTS)
    for ending in _ENDINGS:
        plain = plain.removesuffix(ending)
    names = _names().get(plain)
    return names[language] if names else None


@cache
def _names() -> dict[str, dict[Language, str]]:
    named: dict[str, dict[Language, str]] = {}
    for line in _NAMES.split("\n")[1:-1]:
        emoji, _, both = line.partition(" ")
        english, chinese = both.split("|")
        named[emoji] = {"en": english, "zh": chinese}
    for line in _FLAGS.split("\n")[1:-1]:
        code, _, both = line.partition(" ")
        english, chinese = both.split("|")
        flag = "".join(chr(_FIRST_REGIONAL + ord(letter) - ord("A")) for letter in code)
        named[flag] = {
            "en": f"flag of {english}",
            "zh": f"{chinese}旗" if code in _REGIONS else f"{chinese}国旗",
        }
    return named
