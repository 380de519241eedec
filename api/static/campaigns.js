// The campaigns, and the report of one in a tab of its own.

import { badge, count, figure, make, note, table } from "./elements.js";

/** Shows the campaigns. ask: asks the API for JSON; askText: for text; fail: shows a problem. */
export async function campaigns(ask, askText, fail) {
  const { campaigns: found } = await ask("v1/campaigns");
  if (!found.length) return [make("p", {}, "There is no campaign yet; `recsys campaign create FILE` makes one.")];
  const rows = found.map((one) => [
    one.name,
    badge(one.state),
    make("td", { class: "text" }, one.purpose),
    count(one.mailed),
    count(one.held_back),
    figure(one.expected_buyers),
    one.verdict ? one.verdict.replaceAll("_", " ") : "–",
    `${one.changed_by}`,
    opener(one.name, askText, fail),
  ]);
  const names = ["campaign", "state", "purpose", "mailed", "held back", "expected buyers", "verdict", "last changed by", "report"];
  return [table("Campaigns, the one changed last first", names, rows, [3, 4, 5])];
}

function opener(name, askText, fail) {
  const button = make("button", { type: "button", "data-campaign": name }, "Open");
  button.addEventListener("click", async () => {
    button.disabled = true;
    const tab = window.open("", "_blank"); // now: later a browser takes it for an advertisement
    try {
      const page = new Blob([await askText(`v1/campaigns/${encodeURIComponent(name)}/report`)], { type: "text/html" });
      if (tab) tab.location = URL.createObjectURL(page);
      else button.after(note("The browser does not let this page open a tab.", true));
    } catch (problem) {
      tab?.close();
      fail(problem);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
