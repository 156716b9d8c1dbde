"""What every test may rely on."""

import os
import warnings

from hypothesis import settings

with warnings.catch_warnings():
    # fvcore scripts helper functions as it is imported, which torch has deprecated; all other warnings are errors.
    warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
    import fvcore.nn  # noqa: F401  # imported for its side effect: later imports find it loaded

# The default run is the same every time; HYPOTHESIS_PROFILE=explore looks for new examples.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
