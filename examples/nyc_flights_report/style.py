"""The look of the report: one style sheet, light and dark, that needs no network."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #17202b; --soft: #566270; --rule: #dfe3e9;
  --plain: #2f6fb7; --good: #0f8a6d; --bad: #c8501e; --pale: #8c98a6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f141a; --card: #171e27; --ink: #e8edf3; --soft: #a3afbc; --rule: #2b3643;
    --plain: #6aa9ee; --good: #4cc3a3; --bad: #f08a54; --pale: #74818f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 900px; margin: 0 auto; padding: 48px 20px 72px; }
h1 {
  font-size: clamp(30px, 5.2vw, 46px); line-height: 1.12; letter-spacing: -0.022em; margin: 0 0 14px;
  text-wrap: balance;
}
h2 { font-size: 23px; line-height: 1.25; letter-spacing: -0.012em; margin: 0 0 6px; text-wrap: balance; }
h3 { font-size: 16px; margin: 22px 0 8px; }
p { margin: 0 0 14px; max-width: 68ch; }
.kicker {
  color: var(--bad); font-weight: 650; font-size: 14px; letter-spacing: 0.06em; text-transform: uppercase;
  margin: 0 0 10px;
}
.standfirst { font-size: 19px; color: var(--soft); }
.soft, figcaption, footer { color: var(--soft); font-size: 15px; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: 12px; margin: 28px 0 20px;
  padding: 0;
}
.figures div { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 14px 16px 12px; }
.figures dt { color: var(--soft); font-size: 14px; line-height: 1.35; }
.figures dd {
  margin: 2px 0 0; font-size: 28px; font-weight: 680; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums;
}
.figures dd small {
  display: block; font-size: 13.5px; font-weight: 400; letter-spacing: 0; color: var(--soft);
  line-height: 1.35;
}
section {
  background: var(--card); border: 1px solid var(--rule); border-radius: 14px; padding: 26px 28px 20px;
  margin: 20px 0;
}
figure { margin: 14px 0 10px; }
.scroll { overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--plain); outline-offset: 3px; border-radius: 4px;
}
svg {
  display: block; width: 100%; min-width: 580px; height: auto; font-size: 14px;
  font-variant-numeric: tabular-nums;
}
svg text { fill: var(--ink); }
svg .tick, svg .label { fill: var(--soft); font-size: 13px; }
svg .note { fill: var(--soft); font-size: 12px; }
svg .value { font-size: 13px; font-weight: 600; }
svg .name { font-weight: 600; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .rule { stroke: var(--rule); stroke-width: 1; }
svg .rule.strong { stroke: var(--pale); }
svg .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
svg .dot { stroke: var(--card); stroke-width: 1.5; }
svg .mark.plain, svg .dot.plain, svg .name.plain { fill: var(--plain); }
svg .mark.good, svg .dot.good, svg .name.good { fill: var(--good); }
svg .mark.bad, svg .dot.bad, svg .name.bad { fill: var(--bad); }
svg .line.plain { stroke: var(--plain); }
svg .line.good { stroke: var(--good); }
svg .line.bad { stroke: var(--bad); }
svg .mark:hover, svg .dot:hover { opacity: 0.75; }
details { border-top: 1px solid var(--rule); margin-top: 12px; padding-top: 10px; }
summary { cursor: pointer; color: var(--soft); font-size: 15px; }
details .scroll { max-height: 420px; overflow: auto; margin-top: 10px; }
details + p { margin-top: 14px; }
table {
  border-collapse: collapse; width: 100%; font-size: 14.5px; line-height: 1.35;
  font-variant-numeric: tabular-nums;
}
th, td { text-align: right; padding: 6px 0 6px 16px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
thead th {
  position: sticky; top: 0; background: var(--card); color: var(--soft); font-weight: 600;
  vertical-align: bottom; white-space: normal;
}
tbody th { font-weight: 400; }
.equal { color: var(--good); font-weight: 600; }
footer { margin-top: 28px; }
@media (max-width: 560px) {
  main { padding: 28px 12px 48px; }
  section { padding: 20px 16px 14px; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } details { display: none; } }
"""
