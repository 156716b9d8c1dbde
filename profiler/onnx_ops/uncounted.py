"""Operators that are not counted on purpose, each with its reason, and those that other operators stand for."""

_TEXT = "works on text, not on numbers"

UNCOUNTED = {
    "Det": "the operations of a determinant depend on the factorisation that the runtime picks",
    "MaxRoiPool": "the regions, which are data, decide how many values each output compares",
    "ImageDecoder": "the compressed picture decides how much work it is",
    "MelWeightMatrix": "makes a table of filters once; the standard leaves open how",
    "TfIdfVectorizer": "counts words by looking them up",
    "StringNormalizer": _TEXT,
    "StringConcat": _TEXT,
    "StringSplit": _TEXT,
    "RegexFullMatch": _TEXT,
    "SequenceMap": "the length of a sequence decides how often its body runs",
}

# The standard defines these by other operators, and nobody has a formula for the whole: the definition is counted.
EXPANDED = frozenset(
    (
        *("AffineGrid", "CausalConvWithState", "CenterCropPad", "LinearAttention", "SwiGLU"),
        *("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),
        *("HannWindow", "HammingWindow", "BlackmanWindow"),
    )
)

# These hold graphs of their own, whose nodes are counted.
CONTROL = frozenset(("If", "Loop", "Scan"))
