"""One of two modules that share an app id and know different tasks."""

from pynenc import Pynenc

app = Pynenc(app_id="shared", store="memory://")


@app.task
def first(x: int) -> int:
    return x + 1
