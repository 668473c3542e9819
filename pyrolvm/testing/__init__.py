"""Contract suites: a test class that inherits one checks that a model or guide keeps the rules.

They run under pytest. Outside packages can use them for models and guides of their own::

    class TestMyModel(ModelContract):
        def make(self) -> MyModel:
            return MyModel(latent_dim=2, obs_dim=5)
"""

from pyrolvm.testing.guide_contract import GuideContract
from pyrolvm.testing.model_contract import ModelContract

__all__ = ["GuideContract", "ModelContract"]
