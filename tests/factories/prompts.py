"""Prompts filled from known templates: families of five, each of another shape."""

import random
from collections.abc import Sequence

NAMES: list[str] = str.split(
    "Ada Bo Chen Dora Emil Fatou Greta Hugo Ines Jun Kofi Lena Milo Nora Otto Pia Quinn Rosa Sven Tara"
)
COMPANIES = [
    "Acme Cloud Storage",
    "Nordwind",
    "Blue Lamp",
    "Castle & Sons",
    "Delta Freight",
    "Echo Foods",
    "Fern",
    "Globe",
]
LANGUAGES = ["German", "French", "Spanish", "Italian", "Dutch", "Polish", "Brazilian Portuguese"]
WORDS: list[str] = str.split(
    "the order has not come and i would like to know where it is because we need the lamp for a party on the weekend "
    "please tell me when it will be here our invoice shows two items but only one was in the box thank you for your "
    "help with this matter my account was charged twice last month and nobody answers the phone can you change the "
    "address before it ships i lost the password of my account and the link in the mail does not work anymore this is "
    "very annoying since a week the machine stops after some minutes with a red light and makes a strange noise"
)

TEXT = ("user", "{t}")
HELPFUL = ("system", "You are a helpful assistant.")

FAMILIES: dict[str, list[list[tuple[str, str]]]] = {
    "systems": [
        [
            ("system", "Sort the support ticket into billing, login, shipping or other. Answer in JSON."),
            TEXT,
        ],
        [("system", "You write a polite reply to a customer of {company}. At most 80 words."), TEXT],
        [("system", "Extract the order number, the product and the complaint as JSON fields."), TEXT],
        [
            ("system", "Rate how angry the writer is on a scale of 1 to 5. Answer with the number only."),
            TEXT,
        ],
        [("system", "Summarise what the customer wants in one sentence for the shift of {date}."), TEXT],
    ],
    "one message": [
        [("user", "Sort this ticket into billing, login or other:\n\n{t}")],
        [("user", "{t}\n\nWrite a friendly answer to the mail above, signed by {name}.")],
        [("user", "Customer: {name}\nCompany: {company}\nMessage: {t}\n\nWhich product is it about?")],
        [("user", "Is the following text written in {language}? Say yes or no.\nText: {t}")],
        [("user", "You are an editor at {company}. Correct the spelling, change nothing else: {t}")],
    ],
    "generic system": [
        [HELPFUL, ("user", "Sort this ticket into billing, login or other:\n{t}")],
        [
            HELPFUL,
            ("user", "Write a friendly answer to this mail, signed {name}:\n{t}"),
        ],
        [
            HELPFUL,
            ("user", "Which product of {company} is this message about?\n{t}"),
        ],
        [
            HELPFUL,
            ("user", "Summarise the text in one short {language} sentence.\n{t}"),
        ],
        [HELPFUL, ("user", "List all dates and names that this text has: {t}")],
    ],
    "translations": [
        [("user", "Translate from {language} to {language}: {t}")],
        [("user", "Rewrite for {name} in plain words: {t}")],
        [("user", "Find a headline of six words: {t}")],
        [("user", "Give three tags, comma separated, for {company}: {t}")],
        [("user", "Would {name} call this urgent? Answer yes or no: {t}")],
    ],
    "filled systems": [
        [
            ("system", "You are {name}, the shop assistant of {company}. Today is {date}. Answer in {language}."),
            TEXT,
        ],
        [
            ("system", "Check the claim of {name} against the rules of {company} and decide: pay, refuse, ask."),
            TEXT,
        ],
        [
            ("system", "Customer since {date}: {name}.\nTurn the note into a CRM entry with subject and next step."),
            TEXT,
        ],
        [("system", "Voice: calm. Brand: {company}. Write the text message that we send to {name}."), TEXT],
        [("system", "Find out which language the text is in, though the reader expects {language}."), TEXT],
    ],
}


def fillings(
    family: str, count: int, seed: int, shares: Sequence[float] | None = None
) -> list[tuple[int, list[tuple[str, str]]]]:
    """(template, its filled parts) in an order of chance; `shares`: how much of them each template gets."""
    chance = random.Random(seed)
    templates = FAMILIES[family]
    weights = shares or [1 / len(templates)] * len(templates)
    kinds = [kind for kind, share in enumerate(weights) for _ in range(round(share * count))]
    chance.shuffle(kinds)
    return [(kind, [(name, _filled(text, chance)) for name, text in templates[kind]]) for kind in kinds]


def _filled(text: str, chance: random.Random) -> str:
    while "{language}" in text:
        text = text.replace("{language}", chance.choice(LANGUAGES), 1)
    start = chance.randrange(len(WORDS))
    said = [*WORDS[start:], *WORDS][: chance.randint(5, 40)]
    chance.shuffle(said)
    return text.format(
        t=" ".join(said),
        name=chance.choice(NAMES),
        company=chance.choice(COMPANIES),
        date=f"{chance.randint(1, 28)} March 20{chance.randint(10, 26)}",
    )
