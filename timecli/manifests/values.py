"""Values that a prompt can name instead of another: colours, places and the like, as far as drafts need them."""

from __future__ import annotations

COLOURS = (
    *("red", "yellow", "green", "white", "blue", "black", "pink", "purple", "brown", "orange", "gray", "grey"),
    *("gold", "golden", "silver", "cyan", "magenta", "turquoise", "teal", "violet", "beige", "crimson", "navy"),
)
MATERIALS = ("metal", "glass", "plastic", "stone", "paper", "leather", "wooden", "wood", "steel", "iron", "copper") + (
    *("bronze", "brass", "marble", "concrete", "brick", "ceramic", "porcelain", "clay", "rubber", "woolen", "cotton"),
    *("silk", "velvet", "cardboard", "crystal", "ice", "gingerbread"),
)
FLAVOURS = ("vanilla", "chocolate", "strawberry", "caramel", "pistachio")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "one", "twelve")
GENDERS = ("female", "male")
PEOPLE = ("woman", "man")
AGES = ("young", "elderly", "middle-aged")
GENDERED = {
    *("woman", "man", "girl", "boy", "lady", "gentleman", "mother", "father", "sister", "brother", "daughter", "son"),
    *("wife", "husband", "aunt", "uncle", "grandmother", "grandfather", "queen", "king", "princess", "prince"),
    *("actress", "waitress", "hostess", "stewardess", "nun", "monk"),
    *("cow", "bull", "hen", "rooster", "mare", "stallion"),
}
"""Nouns that say a gender: there is no female king."""
ADDED = {*GENDERS, *PEOPLE, "women", "men", "girl", "boy", "girls", "boys", "lady", "gentleman"}
"""Words that give a person a gender."""
PATTERNS = ("striped", "spotted", "checkered", "dotted", "floral", "plaid")
SHAPES = ("square", "round", "triangular", "oval", "rectangular", "hexagonal", "heart-shaped")
KINDS = (COLOURS, MATERIALS, FLAVOURS, NUMBERS, GENDERS, PEOPLE, AGES, PATTERNS, SHAPES)
"""Words; the first of each kind are the most common ones."""

PLACES = ("in the snow", "on the beach", "in the forest", "in the city", "in the desert")
PLACE_NOUNS = {
    *("beach", "snow", "forest", "city", "desert", "space", "meadow", "field", "garden", "park", "street", "road"),
    *("jungle", "mountains", "sea", "ocean", "lake", "river", "water", "moon", "mars", "kitchen", "office", "sky"),
    *("farm", "village", "castle", "island", "cave", "library", "museum", "church", "rain", "fog", "room"),
}
"""Where a phrase of place ends: "on the beach"."""
