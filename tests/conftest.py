"""What every test may rely on."""

import warnings

with warnings.catch_warnings():
    # fvcore scripts helper functions as it is imported, which torch has deprecated; all other warnings are errors.
    warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
    import fvcore.nn  # noqa: F401  # imported for its side effect: later imports find it loaded
