"""Letters and phonemes of g2p-en 2.1.0 as numbers, and 200 ordinary English words, the samples of its versions.

A word is a row of 20 graphemes: its letters, END_OF_WORD, and PAD behind. An answer is a row of 20 phonemes (ARPAbet,
the digit is the stress), filled with END from the first END on.
"""
from collections.abc import Iterable, Sequence

import numpy as np

STEPS = 20  # letters of a row, and phonemes of an answer
PAD, UNKNOWN, END_OF_WORD = 0, 1, 2
GRAPHEMES = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
START, END = 2, 3
_PHONEMES = """
<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0
ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW
UW0 UW1 UW2 V W Y Z ZH
"""
PHONEMES = tuple(_PHONEMES.split())

_WORDS = """
aardvark tasty applesauce three toed sloths are penultimate animals a i we banana window garden yellow thunder
language mountain river bridge castle doctor teacher student pencil paper kitchen table chair blanket pillow mirror
candle lantern forest meadow valley island harbor sailor anchor engine wheel driver ticket station platform journey
weather summer winter autumn spring blossom petal thorn branch squirrel rabbit badger hedgehog otter beaver falcon
eagle sparrow robin pigeon chicken rooster turkey donkey camel giraffe elephant leopard panther crocodile turtle
dolphin whale octopus lobster shrimp oyster butter cheese yogurt honey sugar pepper ginger garlic onion carrot spinach
cabbage pumpkin cucumber tomato potato orange lemon cherry apricot plum melon walnut almond biscuit sandwich breakfast
dinner supper luncheon appetite delicious hungry thirsty sleepy cheerful gloomy anxious curious generous honest
patient stubborn clever foolish gentle brave timid quiet noisy ancient modern narrow broad shallow heavy light bright
rough smooth through though thought enough cough knight knife gnome wrist psalm island's rhythm queue chaos choir
yacht colonel sergeant lieutenant bureau ballet bouquet chauffeur philosophy photograph psychology mathematics
geography biology chemistry architecture encyclopedia responsibility extraordinary unfortunately characteristically
incomprehensible misunderstanding telecommunication straightforward zigzag nephew cinnamon jazz fizzy oxygen xylophone
exhaust vexing wizard zealous quartz quiz subtle
"""
WORDS = tuple(_WORDS.split())


def graphemes(words: Iterable[str]) -> np.ndarray:
    """int32 [N,20]. Letters that the model does not know become UNKNOWN; of a word only the first 19 letters count,
    since the model was trained on words that end."""
    known = {letter: number for number, letter in enumerate(GRAPHEMES)}
    rows = [[*(known.get(letter, UNKNOWN) for letter in word.lower()[:STEPS - 1]), END_OF_WORD] for word in words]
    return np.array([row + [PAD] * (STEPS - len(row)) for row in rows], np.int32).reshape(-1, STEPS)


def phonemes(answer: Sequence[int] | np.ndarray) -> str:
    """One row of an answer as text: "AA1 R D V AA2 R K"."""
    numbers = [int(number) for number in answer]
    return " ".join(PHONEMES[number] for number in numbers[:numbers.index(END) if END in numbers else None])
