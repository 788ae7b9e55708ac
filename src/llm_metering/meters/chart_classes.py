"""Altair's charts, shown in a notebook without the network.

What Altair makes of a chart by default is a page that loads Vega from a server of somebody else's
(altair 6.3.0, `vegalite/v6/display.py`), and JupyterLab's own Vega is too old for it (4.6: Vega-Lite
5). So these show themselves as SVG, as long as nobody has chosen another renderer.
"""

from __future__ import annotations

from base64 import b64encode
from html import escape
from importlib.util import find_spec
from io import StringIO
from typing import Any, Final

import altair

__all__ = ["Chart", "LayerChart"]


_SVG: Final = "image/svg+xml"
_STYLE: Final = "max-width: 100%; height: auto"


class _AsSvg:
    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
        if altair.renderers.active != "default" or find_spec("vl_convert") is None:
            return super()._repr_mimebundle_(*args, **kwargs)  # type: ignore[misc]  # Altair's
        drawn = StringIO()
        self.save(drawn, format="svg")  # type: ignore[attr-defined]  # likewise
        svg = drawn.getvalue()
        inline = b64encode(svg.encode()).decode()
        # A narrow page shows it smaller: of an SVG alone JupyterLab would show the left half.
        page = (
            f'<img alt="{_alternative(self)}" style="{_STYLE}" src="data:{_SVG};base64,{inline}">'
        )
        return {"text/html": page, _SVG: svg, "text/plain": repr(self)}


class Chart(_AsSvg, altair.Chart):
    """A chart of one kind of mark."""


class LayerChart(_AsSvg, altair.LayerChart):
    """A chart of several."""


def _alternative(chart: Any) -> str:
    """What a screen reader says in place of the picture: its title."""
    return escape(str(getattr(chart.title, "text", "usage")))
