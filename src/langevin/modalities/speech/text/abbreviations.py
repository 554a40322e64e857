"""Abbreviations, units and signs of English text, with the words that are said for them."""

TITLES = {  # before a name: the full stop never ends a sentence
    "mr": "mister", "mrs": "missus", "ms": "miz", "prof": "professor", "rev": "reverend", "hon": "honorable",
    "gen": "general", "col": "colonel", "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "maj": "major",
    "gov": "governor", "sen": "senator", "rep": "representative", "pres": "president", "messrs": "messrs", "mt": "mount",
    "ft": "fort", "sr": "senior", "jr": "junior",
}  # fmt: skip
ABBREVIATIONS = {
    "e.g": "for example", "i.e": "that is", "etc": "et cetera", "vs": "versus", "approx": "approximately",
    "inc": "incorporated", "ltd": "limited", "co": "company", "corp": "corporation", "dept": "department",
    "ave": "avenue", "blvd": "boulevard", "rd": "road", "bros": "brothers", "assn": "association", "univ": "university",
    "jan": "january", "feb": "february", "apr": "april", "jun": "june", "jul": "july", "aug": "august",
    "sep": "september", "sept": "september", "oct": "october", "nov": "november", "dec": "december",
}  # fmt: skip
NUMBERED = {  # before a number
    "no": "number", "nos": "numbers", "vol": "volume", "ch": "chapter", "fig": "figure", "p": "page", "pp": "pages",
    "pt": "part", "sec": "section", "bk": "book", "mar": "march",
}  # fmt: skip
CHAPTERS = frozenset((  # words after which a Roman numeral is a number
    "act", "appendix", "article", "book", "chapter", "class", "figure", "level", "page", "part", "phase", "scene",
    "section", "stage", "title", "type", "volume", "war",
))  # fmt: skip
REIGNS = frozenset((  # names after which a Roman numeral is an ordinal
    "louis", "henry", "george", "edward", "elizabeth", "charles", "william", "james", "richard", "john", "paul",
    "pius", "benedict", "gregory", "philip", "frederick", "peter", "catherine", "nicholas", "alexander", "leopold",
    "napoleon", "ramses", "ptolemy", "innocent", "leo", "clement", "urban", "boniface", "wilhelm",
))  # fmt: skip
UNITS = {
    "%": "percent", "°": "degrees", "°C": "degrees celsius", "°F": "degrees fahrenheit", "¢": "cents", "€": "euros",
    "£": "pounds", "km/h": "kilometers per hour", "mph": "miles per hour", "km": "kilometers", "cm": "centimeters",
    "mm": "millimeters", "m": "meters", "kg": "kilograms", "mg": "milligrams", "g": "grams", "lb": "pounds",
    "lbs": "pounds", "oz": "ounces", "ft": "feet", "hrs": "hours", "min": "minutes", "ms": "milliseconds",
    "kHz": "kilohertz", "Hz": "hertz", "MHz": "megahertz", "GHz": "gigahertz", "kB": "kilobytes", "KB": "kilobytes",
    "MB": "megabytes", "GB": "gigabytes", "TB": "terabytes", "kW": "kilowatts", "ml": "milliliters",
}  # fmt: skip
SINGULAR = {
    "degrees": "degree", "degrees celsius": "degree celsius", "degrees fahrenheit": "degree fahrenheit", "feet": "foot",
    "kilometers per hour": "kilometer per hour", "miles per hour": "mile per hour",
}  # fmt: skip
SINGULAR |= {name: name[:-1] for name in UNITS.values() if name.endswith("s") and " " not in name}
SIGNS = {
    "&": "and", "@": "at", "#": "number", "+": "plus", "=": "equals", "%": "percent", "<": "less than",
    ">": "greater than", "°": "degrees", "¢": "cents", "§": "section", "€": "euro", "£": "pound", "$": "dollar",
    "¥": "yen",
}  # fmt: skip
LEADING = frozenset(("'tis", "'twas", "'em", "'cause", "'til", "'bout", "'round", "'n", "'course"))  # begin with one
