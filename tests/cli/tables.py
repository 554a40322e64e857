"""What `evaluate` shows on a terminal, read back."""

import json


def shown_metrics(run, out, *, width=80):
    """(group, metric) of each line of the table; the rows of the run's report, whole, and none of them too wide."""
    sections = json.loads((run / "report.json").read_text())["sections"]
    rows = [row for part in sections if part["kind"] == "metrics" for row in part["rows"]]
    lines = out[out.index("metric ") :].split("\n\n")[0].splitlines()
    assert max(map(len, lines)) <= width
    found, group = set(), ""
    for line in (line.strip() for line in lines):
        if line in {row["group"] for row in rows} - {""}:
            group = line
        found |= {
            (group, row["metric"]) for row in rows if row["group"] == group and line.startswith(f"{row['metric']}  ")
        }
    assert found == {(row["group"], row["metric"]) for row in rows}
    return found
