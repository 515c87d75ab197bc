"""Made-up messages to a shop, each about one of four matters, from a small grammar.

Most messages also name a matter that they are not about ("it is not about the refund, but ..."), in either order. So
the words alone do not tell the matter; their order does. Some words are misspelt, so no classifier is always right.
"""
import numpy as np

MATTERS = ("payment", "delivery", "fault", "account")
MISSPELT = 0.03  # of all words
_THINGS = {
    "payment": ("the invoice", "my last bill", "a refund", "the credit card", "the price", "a double charge",
                "the discount code", "the receipt", "the bank transfer", "the tax on it"),
    "delivery": ("the parcel", "the courier", "my address", "the tracking number", "a late shipment", "the pickup shop",
                 "the delivery date", "a damaged box", "the postage", "the customs form"),
    "fault": ("a broken screen", "the battery", "a strange noise", "the charger", "the power button", "a missing screw",
              "the warranty", "a repair", "the error light", "a loose cable"),
    "account": ("my password", "the login page", "my user name", "the newsletter", "my profile picture",
                "the sign up mail", "a blocked account", "my phone number", "the security question", "my data"),
}
_OPENINGS = ("Hello,", "Good morning,", "Dear team,", "Hi there,", "Excuse me,", "")
_SAYS = ("I write about", "this is about", "I have a question on", "please help me with", "my problem is",
         "I want to talk about")
_DENIES = ("it is not about", "I do not mean", "never mind", "do not look at", "it has nothing to do with",
           "you already solved")
_PLACES = ("from last week", "of my second order", "for my sister", "in your shop", "that I told you of", "", "", "")
_ENDINGS = ("Thank you!", "Please answer soon.", "Kind regards", "What can I do?", "")


def sentences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Different messages (strings, [N]) and the number of the matter of each (int64 [N])."""
    random = np.random.default_rng(seed)
    found: dict[str, int] = {}
    while len(found) < count:
        matter = int(random.integers(len(MATTERS)))
        found.setdefault(_message(random, matter), matter)
    return np.array(list(found)), np.array(list(found.values()), np.int64)


def _message(random: np.random.Generator, matter: int) -> str:
    def one(of: tuple[str, ...]) -> str:
        return of[random.integers(len(of))]

    parts = [f"{one(_SAYS)} {one(_THINGS[MATTERS[matter]])} {one(_PLACES)}".strip()]
    if random.random() < 0.8:
        other = (matter + int(random.integers(1, len(MATTERS)))) % len(MATTERS)
        parts.insert(int(random.integers(2)), f"{one(_DENIES)} {one(_THINGS[MATTERS[other]])} {one(_PLACES)}".strip())
    words = f"{one(_OPENINGS)} {', but '.join(parts)}. {one(_ENDINGS)}".split()
    return " ".join(_misspelt(random, word) if random.random() < MISSPELT else word for word in words)


def _misspelt(random: np.random.Generator, word: str) -> str:
    """The word with two neighbouring letters exchanged."""
    at = int(random.integers(max(1, len(word) - 1)))
    return word[:at] + word[at:at + 2][::-1] + word[at + 2:]
