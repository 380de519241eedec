// What a shop sends and reads, in the types made from docs/openapi.json. `make types` compiles it with --strict:
// what is optional may be left out, and a misspelled name is an error.
import type { components, operations } from "./recsys";

type Schemas = components["schemas"];

export const visitor: Schemas["Question"] = { visitor_id: "v-81" };
export const basket: Schemas["BoxQuestion"] = { item_id: ["85123A"], k: 5, rules: { max_per: { brand: 2 } } };
export const page: Schemas["PageQuestion"] = { user_id: "u-1", boxes: [{ box: "for_you" }, { box: "trending", k: 4 }] };
export const narrow: Schemas["BoxQuestion"] = { filter: "price:lt:20", k: 5 };
export const event: Schemas["Event"] = { user_id: "u-1", item_id: "85123A", kind: "view" };
export const item: Schemas["Item"] = { item_id: "85123A", price: 4.5, stores: ["Berlin", "Oslo"] };
export const address: operations["get_box"]["parameters"] = { path: { box: "similar" }, query: { item_id: ["85123A"] } };

// @ts-expect-error a misspelled name
export const misspelled: Schemas["Question"] = { visitor: "v-81" };

export function titles(answer: Schemas["BoxAnswer"]): string[] {
  for (const warning of answer.warnings) console.warn(warning.code, warning.detail);
  return answer.hits.map((hit) => String(hit.fields?.["title"] ?? hit.item_id));
}

// As docs/front-end.md shows it.
export async function boxesOf(page: Schemas["PageQuestion"], key: string, home = "http://127.0.0.1:8000") {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${key}` };
  const sent = { method: "POST", headers, body: JSON.stringify(page), signal: AbortSignal.timeout(200) };
  try {
    const answer = await fetch(`${home}/v1/pages`, sent);
    return answer.ok ? ((await answer.json()) as Schemas["PageAnswer"]).boxes : [];
  } catch {
    return []; // no answer in time: the page does without
  }
}
