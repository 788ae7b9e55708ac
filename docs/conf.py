"""How Sphinx builds these pages; `-W` makes every warning an error."""

from importlib.metadata import version as version_of

project = "llm-metering"
author = "The llm-metering authors"
project_copyright = "2026, the llm-metering authors"
release = version_of("llm-metering")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings put names in single backticks, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
# The attributes of a dataclass are described once, in its docstring.
napoleon_use_ivar = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"llm-metering {release}"
# Code has lines of up to 100 characters, which the theme's own size would cut off at 83.
html_theme_options = {"light_css_variables": {"code-font-size": "0.73rem"}}
