"""What the page says, in English and Chinese."""

from collections.abc import Mapping

LANGUAGES = ("en", "zh")

#: Each style's name as the network's row is called, in English and in Chinese, in that order.
STYLE_WORDS = {
    "amber_mist": ("Amber mist", "琥珀薄雾"),
    "yellow_blocks": ("Yellow blocks", "黄色积木"),
    "charcoal_peach": ("Charcoal peach", "炭笔蜜桃"),
    "carnival_glass": ("Carnival glass", "狂欢琉璃"),
    "crimson_pastel": ("Crimson pastel", "绯红粉彩"),
    "autumn_oil": ("Autumn oil", "秋日油彩"),
    "violet_speckle": ("Violet speckle", "紫罗兰斑点"),
    "primary_colors": ("Primary colors", "三原色"),
    "magenta_crayon": ("Magenta crayon", "洋红蜡笔"),
    "slate_and_rose": ("Slate and rose", "青石与玫瑰"),
    "copper_etching": ("Copper etching", "铜版蚀刻"),
    "golden_ink": ("Golden ink", "金色墨水"),
    "lilac_haze": ("Lilac haze", "丁香烟霭"),
    "lime_woodcut": ("Lime woodcut", "青柠木刻"),
    "frosted_teal": ("Frosted teal", "霜青"),
    "stained_glass": ("Stained glass", "彩绘玻璃"),
    "indigo_pastel": ("Indigo pastel", "靛蓝粉彩"),
    "woven_ribbons": ("Woven ribbons", "编织彩带"),
    "carved_parchment": ("Carved parchment", "羊皮纸刻"),
    "starry_night": ("Starry night", "星夜"),
    "red_ember": ("Red ember", "红色余烬"),
    "pink_collage": ("Pink collage", "粉色拼贴"),
    "inked_porcelain": ("Inked porcelain", "水墨青花"),
    "dusky_gouache": ("Dusky gouache", "暮色水粉"),
    "cream_wave": ("Cream wave", "奶油波浪"),
    "pebble_mosaic": ("Pebble mosaic", "卵石马赛克"),
}

WORDS = {
    "title": ("A photo, painted", "把照片画成画"),
    "sentence": (
        "Drop a photo and pick a style. A OneFlow network, served by Triton, paints it.",
        "放入一张照片，选一种风格，由 Triton 部署的 OneFlow 网络为您作画。",
    ),
    "photo": ("Your photo", "您的照片"),
    "painted": ("Before and after: drag the line", "前后对比：拖动分界线"),
    "empty": (
        "The painting appears here. Drop a photo, take one, or try one of ours.",
        "画作会出现在这里。请放入或拍摄一张照片，也可以试试我们的示例。",
    ),
    "examples": ("No photo at hand? Try one of these", "手边没有照片？试试这些"),
    "pick": ("Pick a style", "选一种风格"),
    "style": ("Style", "风格"),
    "blend": ("Blend in a second style", "混合第二种风格"),
    "second": ("Second style", "第二种风格"),
    "percent": ("How much of it, in percent", "所占比例（%）"),
    "download": ("Download the painting", "下载画作"),
    "again": ("Paint again", "重新作画"),
    "paint all": ("Paint it in all 26 styles", "用全部 26 种风格作画"),
    "gallery": ("All styles; click one to see it large", "全部风格；点击一张查看大图"),
    "progress": ("{done} of {total}", "第 {done} 张，共 {total} 张"),
    "ready": ("ready to paint", "可以作画"),
    "starting": ("getting ready …", "正在准备……"),
    "slow": ("busy, answers take longer", "繁忙，请稍候"),
    "away": ("the painting server is away, trying again …", "作画服务暂时离线，正在重试……"),
    "offline": ("no connection to this page's server", "与本页服务器的连接已断开"),
    "footer": (
        "Your photo is seen by this server only, and removed after {minutes} minutes.",
        "您的照片只会传到本服务器，{minutes} 分钟后自动删除。",
    ),
    # Errors, each with what to do.
    "no photo": ("There is no photo yet: drop one first.", "还没有照片，请先放入一张。"),
    "gone": (
        "This photo was removed after a while, as promised. Please drop it again.",
        "这张照片已按约定删除，请重新放入。",
    ),
    "not a picture": (
        "This file is not a picture that can be read, or it is damaged or animated. "
        "Please give a JPEG, PNG or WebP.",
        "无法读取此文件，它可能不是图片、已损坏，或是动图。请使用 JPEG、PNG 或 WebP 图片。",
    ),
    "heic": (
        "This is a HEIC picture, which cannot be read here. Please export it as JPEG on your "
        "phone or computer, and give that.",
        "这是 HEIC 格式的图片，本页无法读取。请在手机或电脑上将其导出为 JPEG，再重新放入。",
    ),
    "too large": (
        "This picture is larger than {megabytes} MB or {megapixels} million pixels. "
        "Please give a smaller one.",
        "这张图片超过 {megabytes} MB 或 {megapixels}00 万像素，请换一张小一些的。",
    ),
    "no such style": (
        "There is no such style. Please pick one of the pictures.",
        "没有这种风格，请从图片中选择一种。",
    ),
    "no answer": (
        "The painting server is not responding at the moment. Your photo is kept; "
        "it is painted as soon as the server is back.",
        "作画服务暂时没有响应。您的照片已保留，服务恢复后会自动作画。",
    ),
    "broken": (
        "Something went wrong on this server. Please try again.",
        "服务器出了点问题，请重试。",
    ),
}


def language_of(accept: str) -> str:
    """Return "zh" if a browser that sends this Accept-Language prefers Chinese, else "en"."""
    wanted = []
    for part in accept.split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), tag[:2].lower()))
        except ValueError:
            continue
    known = [tag for _, tag in sorted(wanted, key=lambda pair: pair[0]) if tag in LANGUAGES]
    return known[0] if known else "en"


def say(key: str, language: str, **values: object) -> str:
    """Return words, or the name of a style, in a language, with values filled in."""
    words = WORDS.get(key) or STYLE_WORDS[key]
    return words[LANGUAGES.index(language)].format(**values)


def translations() -> Mapping[str, dict[str, str]]:
    """Return all words by language, as ``gradio.I18n`` takes them."""
    return {
        language: {key: words[i] for key, words in (WORDS | STYLE_WORDS).items()}
        for i, language in enumerate(LANGUAGES)
    }
