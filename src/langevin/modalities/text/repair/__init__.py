"""Repair of texts by a noisy channel, which is how `langevin correct` uses a run on open texts: what was meant, given what
was typed, by Bayes' rule.

    ln p(meant | typed) = ln p(typed | meant) + ln p(meant) + const

`channel` has p(typed | meant), learned from lists of misspellings; `language` p(meant), counted in the texts that a run
was trained on; `candidates` what may have been meant; `search` finds the likeliest sentence, and what each change gains.
Paper: "A Spelling Correction Program Based on a Noisy Channel Model" (1990).
"""
