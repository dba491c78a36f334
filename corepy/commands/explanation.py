"""Format an explanation of `corepy.server.explain.explainer` as text."""

from __future__ import annotations

from typing import Any


def render(explanation: dict[str, Any]) -> str:
    """Return the text, which ends with a newline."""
    parts = [_head(explanation), _steps(explanation), _foot(explanation)]
    parts.append("".join(explanation["reply"]["text"]))
    log = explanation.get("log")
    if log:
        parts.append("".join(f"{line}\n" for line in ("Log", *(f"  {line}" for line in log))))
    return "\n".join(parts)


def _head(explanation: dict[str, Any]) -> str:
    asked, block = explanation["question"], explanation["block"]
    class_ = "" if asked["class"] == "IN" else f"{asked['class']} "
    edns = f"EDNS {asked['edns']}" if asked["edns"] else "no EDNS"
    how = ", ".join(word for word in (asked["protocol"], edns, "DO" if asked["do"] else "") if word)
    where = f" of process {explanation['process']}" if "process" in explanation else ""
    rows = [
        ("Question", f"{asked['name']} {class_}{asked['type']} from {asked['client']} ({how})"),
        ("Server", explanation["server"] + where),
    ]
    rows += [
        ("", f"at {it['server']} " + (f"{it['zone']} ({it['place']}) answers" if it["zone"] else
         "no block answers")) for it in explanation["elsewhere"]
    ]  # fmt: skip
    if block is None:
        rows.append(("Block", f"none: {explanation['reason']}"))
    else:
        where = f"{block['zone']} ({_place(block)})"
        rows.append(("Block", f"{where}: {explanation['reason']}"))
    rows.append(("", _candidates(explanation)))
    if block is not None:
        rows.append(("Chain", " > ".join(block["chain"]) or "empty"))
        rows.append(
            ("", f"without handler: {', '.join(block['beside'])}" if block["beside"] else "")
        )
    return "".join(f"{title:<10}{text}\n" for title, text in rows if text)


def _candidates(explanation: dict[str, Any]) -> str:
    chosen = explanation["block"] or {}
    rest = [
        it
        for it in explanation["candidates"]
        if (it["zone"], it["place"]) != (chosen.get("zone"), chosen.get("place"))
    ]
    fitting = [f"{it['zone']} ({_place(it)}{_verdict(it)})" for it in rest if it["fits"]]
    other = list(dict.fromkeys(it["zone"] for it in rest if not it["fits"]))
    shown = ", ".join(other[:5]) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
    texts = [f"also in {', '.join(fitting)}" if fitting else ""]
    texts.append(f"not in {shown}" if other else "")
    return "; ".join(text for text in texts if text)


def _place(block: dict[str, Any]) -> str:
    return f"{block['place']}, view {block['view']}" if block["view"] else str(block["place"])


def _verdict(candidate: dict[str, Any]) -> str:
    if candidate["accepts"] is None:
        return ""
    return ": its filter accepts the query" if candidate["accepts"] else ": its filter rejects it"


def _steps(explanation: dict[str, Any]) -> str:
    steps = explanation["steps"]
    if not steps:
        return ""
    width = max(len(step["plugin"]) + 2 * step["depth"] for step in steps)
    lines = []
    for step in steps:
        name = "  " * step["depth"] + step["plugin"]
        lines.append(f"{_time(step['seconds'])}  {name:<{width}}  {_did(step)}")
        indent = " " * (12 + width + 2 + 2 * step["depth"])
        lines += [f"{indent}{line}" for line in _details(step)]
    lines.append(f"{_time(explanation['seconds'])}  total")
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _did(step: dict[str, Any]) -> str:
    state = step.get("before", {}).get("state")
    return f"{state}; {step['did']}" if state else str(step["did"])


def _details(step: dict[str, Any]) -> list[str]:
    before, after = step.get("before", {}), step.get("after", {})
    known = {key: value for key, value in before.items() if key != "state"}
    lines = [_pairs(known)] if known else []
    lines += [f"down  {change}" for change in step.get("down", ())]
    lines += [f"up    {change}" for change in step.get("up", ())]
    lines += [f"error {part}" for part in (step.get("error") or "").split("; ") if part]
    if after and after != before:
        rest = _pairs({key: value for key, value in after.items() if key != "state"})
        lines.append(f"now   {', '.join(filter(None, (after.get('state'), rest)))}")
    lines += [f"{label}: {value}" for label, value in step.get("labels", {}).items()]
    return lines


def _pairs(known: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in known.items())


def _foot(explanation: dict[str, Any]) -> str:
    packet_cache = explanation["packet_cache"]
    if packet_cache is None:
        return "Packet cache  not used, no block answers\n"
    if packet_cache["admitted"]:
        text = f"stores this reply for {packet_cache['seconds']:.0f} s"
    else:
        text = f"does not store this reply: {packet_cache['reason']}"
    holds = packet_cache.get("holds")
    if holds:
        text += f"; contains one now, for {max(0.0, holds['seconds left']):.0f} s"
    return f"Packet cache  {text}\n"


def _time(seconds: float | None) -> str:
    """Return a time in ten columns."""
    if seconds is None:
        return " " * 10
    if seconds < 0.001:
        return f"{seconds * 1e6:7.0f} us"
    return f"{seconds * 1e3:7.1f} ms" if seconds < 1 else f"{seconds:7.2f} s "
