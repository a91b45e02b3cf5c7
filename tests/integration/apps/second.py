"""The other one."""

from pynenc import Pynenc

app = Pynenc(app_id="shared", store="memory://")


@app.task
def second(x: int) -> int:
    return x + 2
