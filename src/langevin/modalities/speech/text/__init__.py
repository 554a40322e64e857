"""The text front end: text to the units that are spoken, phonemes or characters. Pure functions, without torch.

| file | what |
|---|---|
| units | the units of a recipe, as indices: `Phonemes`, `Characters`, `Espeak` |
| normalise, plain, numbers, abbreviations | English text to words and pauses |
| dictionary | words to phonemes: the CMU Pronouncing Dictionary |
| pronounce | any word to phonemes: the dictionary, its stems, else the letters |
| letters, align, joint | letter-to-sound: alignment, n-gram, beam search, accuracy |
"""
