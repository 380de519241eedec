"""The page in a real browser, on a real service."""

import sqlite3
from contextlib import closing

import pytest
from serving import codes, ids
from test_api_keys import create
from tiny import quiet

from jobs.train import train
from recsys.config.loading import load_config
from recsys.errors import RefusedError
from recsys.store.migrate import open_store
from recsys.store.runs import finish_run, start_run

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
PICTURE = "static/icon.svg"


def set_pictures(shop, sql_value):
    with closing(sqlite3.connect(shop / "shop.db")) as database:
        database.execute(f"UPDATE products SET image = {sql_value}")
        database.commit()


def some_user(shop):
    """Somebody who has bought and looked around."""
    with closing(sqlite3.connect(shop / "shop.db")) as database:
        busiest = "SELECT customer_id FROM page_views GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
        return str(database.execute(busiest).fetchone()[0])


@pytest.fixture
def nights(shop):
    """A shop after a published run without foreign pictures, a failed one and a refused one."""
    set_pictures(shop, f"CASE WHEN rowid % 2 THEN '{PICTURE}' END")
    train(load_config(shop / "recsys.toml", {}), progress=quiet)
    config = load_config(shop / "recsys.toml", {})
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        failed = start_run(store, "train", "1a2b3c4d", owner="test")
        finish_run(store, failed, "failed", error="the shop was down")
    with closing(sqlite3.connect(shop / "shop.db")) as database:
        for table in ("page_views", "cart_events", "orders"):
            database.execute(f"DELETE FROM {table} WHERE id % 2 = 0")
        database.commit()
    with pytest.raises(RefusedError, match="fewer than"):
        train(config, progress=quiet, scheduled=True)
    return shop


def look_up(browser, kind, identifier, k=12, filter_=""):
    browser.type(f"#{kind}", identifier)
    browser.type(f"#{kind}-k", str(k))
    browser.type(f"#{kind}-filter", filter_)
    browser.press(f"#{kind}-form button")
    browser.wait(lambda: is_settled(browser) and browser.texts(f"#{kind}-answer > *"))


def is_settled(browser):
    return not browser.count("[aria-busy]") and browser.run("return !document.getElementById('refresh').disabled")


def open_page(browser, url):
    browser.open(url)
    browser.wait(lambda: is_settled(browser) and browser.text("#state") != "Loading …")


def test_the_page_shows_status_runs_users_and_items_and_asks_nobody_else(serve, nights, browser):
    server, user = serve(), some_user(nights)
    open_page(browser, server.url)
    status = server.http.get("/v1/status").json()
    assert browser.text("#state").startswith("answering from a bundle")
    facts = browser.text("#bundle")
    for told in (status["serving"]["version"], "mf, 16 dimensions", "Recall@20 of the index\n1.0000", "11,693"):
        assert told in facts
    assert browser.texts("#bundle .live") == ["live"]

    runs = server.http.get("/v1/runs").json()["runs"]
    assert [run["status"] for run in runs] == ["refused", "failed", "done"]
    assert browser.texts("#runs td .badge")[:3] == ["refused", "failed", "done"]
    assert browser.count(".chart .run.done circle.winner") == 1
    assert browser.count(".chart .run.refused path") == 1
    assert browser.count(".chart .run.failed path") == 1
    assert browser.count(".chart .run rect.popularity") == 1  # what failed or was refused by a guard was not evaluated
    quality = f"{runs[2]['ndcg@20']['candidate']:.4f}"
    assert quality in browser.text("#runs table")
    assert quality in browser.run("return document.querySelector('.chart .run.done title').textContent")
    assert "the shop was down" in browser.text("#runs table")
    assert "fewer than" in browser.text("#runs table")
    assert browser.texts("#found td .badge")[0] == "refuse"
    assert "past view" in browser.text("#found table")
    heights = browser.run(
        "return ['circle.winner', 'rect.popularity'].map((name) => "
        "document.querySelector('.chart .run.done ' + name).getBoundingClientRect().y)"
    )
    assert (heights[0] < heights[1]) == (runs[2]["ndcg@20"]["candidate"] > runs[2]["ndcg@20"]["popularity"])

    look_up(browser, "user", user, k=5, filter_="price:between:1,500")
    answer = server.user(user, k=5, filter="price:between:1,500", fields="title,price,image_url")
    cards = browser.texts("#user-answer .hits:nth-of-type(1) .words")
    assert [card.split("\n")[0] for card in cards[:5]] == [hit["fields"]["title"] for hit in answer["hits"]]
    for card, hit in zip(cards, answer["hits"], strict=False):
        assert f"{hit['item_id']} · {hit['fields']['price']:.2f}" in card
        assert hit["reason"] in card
    pictures = sum(hit["fields"]["image_url"] is not None for hit in answer["hits"])
    assert browser.count("#user-answer .hits:nth-of-type(1) img") == pictures
    past = server.http.get(f"/v1/users/{user}/history?limit=12").json()["events"]
    history = browser.texts("#user-answer .hits:nth-of-type(2) .words")
    assert len(history) == len(past) == 12
    for card, event in zip(history, past, strict=True):
        assert f"{event['kind']}, {event['occurred_at'][:19].replace('T', ' ')}" in card

    browser.press("#user-answer .hits:nth-of-type(1) a")  # a title leads to items like it
    browser.wait(lambda: is_settled(browser) and browser.count("#item-answer .hits"))
    similar = server.similar(answer["hits"][0]["item_id"], k=12)
    shown = browser.texts("#item-answer code")
    assert shown == ids(similar)
    assert browser.text("#item-answer h3") == f"Items like {answer['hits'][0]['fields']['title']}"
    assert browser.complaints() == []
    assert {url.startswith(server.url + "/") for _, url in browser.requests()} == {True}


def test_an_unknown_user_gets_popular_items_and_an_unknown_item_an_explanation(serve, browser):
    server = serve()
    stranger = "нет/такого <b>"
    open_page(browser, server.url)
    look_up(browser, "user", stranger, k=3)
    answer = server.user(stranger, k=3)
    assert codes(answer) == ["no_history"]
    assert browser.texts("#user-answer .hits code") == ids(answer)
    assert "Nothing is known of this user" in browser.text("#user-answer")
    assert set(browser.texts("#user-answer .reason")) == {"popular"}
    assert f"Recommendations for {stranger}" in browser.text("#user-answer")
    foreign = {kind for kind, url in browser.requests() if not url.startswith(server.url + "/")}
    assert foreign == {"Image"}  # the shop's own pictures, and nothing else
    browser.wait(lambda: not browser.count("#user-answer img"))  # they do not exist: the names' beginnings are seen
    assert all(browser.texts("#user-answer .picture"))
    assert all("shop.example" in complaint for complaint in browser.complaints())
    look_up(browser, "item", stranger)
    assert browser.text("#item-answer").startswith("This item is not among")
    look_up(browser, "user", stranger, filter_="nonsense:eq:1")
    assert "no such column" in browser.text("#user-answer")
    assert all("404" in complaint or "422" in complaint for complaint in browser.complaints())


def test_no_text_of_the_data_becomes_html_and_no_picture_a_script(serve, nights, browser):
    server, user = serve(), "<b>mallory</b>"
    evil_id = '"><img src=x onerror=document.title=1>'
    pictures = ["javascript:document.title='owned'", "data:text/html,owned", "//[", "\n", "blob:x"]
    items = [{"item_id": f"evil-{at}", "title": EVIL, "image_url": url} for at, url in enumerate(pictures)]
    items.append({"item_id": evil_id, "title": "harmless", "category": EVIL, "image_url": f"{PICTURE}?<script>"})
    server.post("/v1/items", items)
    for item in items:
        server.event(user, item["item_id"], kind="view")
    server.event(user, "<i>nobody knows it</i>", kind="view")
    open_page(browser, server.url)
    look_up(browser, "user", user)
    history = browser.text("#user-answer .hits:nth-of-type(2)")
    assert history.count(EVIL) == len(pictures)
    assert evil_id in history
    assert "<i>nobody knows it</i>" in history
    assert "an item that nobody knows" in history
    assert user in browser.text("#user-answer h3")
    found = browser.run(
        "return [...document.querySelectorAll('#user-answer .hits:nth-of-type(2) img')].map((i) => i.src)"
    )
    assert found == [f"{server.url}/{PICTURE}?%3Cscript%3E"]
    look_up(browser, "item", evil_id)
    browser.wait(lambda: browser.count("#item-answer .hits"))
    assert browser.count("#content script, #content b, #content i, #content [onerror]") == 0
    assert browser.driver.title == "recsys"
    assert browser.complaints() == []
    assert {url.startswith(server.url + "/") for _, url in browser.requests()} == {True}


def test_where_keys_are_needed_the_page_asks_for_one_and_keeps_it_in_its_tab(serve, shop, browser):
    admin, other = create(shop, "admin")["key"], create(shop, "recommend")["key"]
    server = serve()
    open_page(browser, server.url)
    assert browser.is_seen("#lock")
    assert not browser.is_seen("#content")
    assert not browser.is_seen("#key-fault")
    for wrong, told in (("recsys_wrong", "unknown or revoked"), (other, "the scope admin"), ("ключ", "no key")):
        browser.type("#key", wrong)
        browser.press("#key-form button")
        browser.wait(lambda told=told: told in browser.text("#key-fault"))
        assert browser.run("return sessionStorage.length + localStorage.length") == 0
        assert not browser.is_seen("#content")
    browser.type("#key", admin)
    browser.press("#key-form button")
    browser.wait(lambda: browser.is_seen("#content") and is_settled(browser))
    assert not browser.is_seen("#lock")
    look_up(browser, "user", "1003", k=2)
    assert browser.count("#user-answer .hits:nth-of-type(1) .words") == 2
    assert browser.run("return [Object.values(sessionStorage), localStorage.length, document.cookie]") == [
        [admin],
        0,
        "",
    ]
    assert all(admin not in url for _, url in browser.requests())
    assert admin not in browser.run("return document.documentElement.outerHTML")
    complaints = [told for told in browser.complaints() if "shop.example" not in told]
    assert all(" 401 " in told or " 403 " in told for told in complaints)
    open_page(browser, server.url)  # the tab remembers it
    assert browser.is_seen("#content")
    browser.press("#forget")
    browser.wait(lambda: browser.is_seen("#lock"))
    assert browser.run("return sessionStorage.length") == 0
    assert browser.text("#bundle") == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_is_labeled_and_can_be_read_in_light_and_dark(serve, nights, browser, scheme):
    server = serve()
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    preferred = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)
    open_page(browser, f"{server.url}/#user={some_user(nights)}&item=P00001")
    browser.wait(lambda: browser.count(".hits") == 3)
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.run("return [...document.querySelectorAll('input')].every((i) => i.labels.length === 1)")
    contrasts = browser.run(CONTRASTS)
    assert len(contrasts) > 100
    assert [found for found in contrasts if found[0] < 4.5] == []
    ground = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 300) == (scheme == "dark")
    assert browser.complaints() == []


def test_it_works_by_keyboard_alone(serve, nights, browser):
    server = serve()
    open_page(browser, server.url)
    browser.run("document.getElementById('user').focus()")
    focused = browser.driver.switch_to.active_element
    focused.send_keys(some_user(nights) + "\n")
    browser.wait(lambda: is_settled(browser) and browser.count("#user-answer .hits") == 2)
    first = browser.driver.find_element("css selector", "#user-answer .hits a")
    browser.run("arguments[0].focus()", first)
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    first.send_keys("\n")
    browser.wait(lambda: is_settled(browser) and browser.count("#item-answer .hits") == 1)
    browser.driver.back()
    browser.wait(lambda: is_settled(browser) and not browser.count("#item-answer .hits"))
    assert browser.count("#user-answer .hits") == 2


# The contrast, as WCAG counts it, of every text that is seen against what lies behind it.
CONTRASTS = """
const light = ([r, g, b]) => {
  const parts = [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = numbers(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const found = [];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.checkVisibility() || node.closest('title')) continue;
  const style = getComputedStyle(node);
  const color = numbers(node instanceof SVGElement ? style.fill : style.color);
  const [high, low] = [light(color), light(behind(node))].sort((a, b) => b - a);
  found.push([(high + 0.05) / (low + 0.05), node.tagName + ' ' + node.textContent.slice(0, 40)]);
}
return found;
"""


def test_campaigns_are_listed_and_a_report_opens_whole_beside_the_page(serve, shop, browser):
    definition = {
        "name": "lamps",
        "purpose": EVIL,
        "legal_basis": "consent",
        "retention_days": 90,
        "control_share": 0.4,
        "audience": {"anything": True, "size": 60, "strategy": "most_active"},
    }
    key = create(shop, "admin")["key"]
    server = serve()
    headers = {"Authorization": f"Bearer {key}"}
    assert server.http.post("/v1/campaigns", json=definition, headers=headers).status_code == 200
    browser.open(server.url)
    browser.wait(lambda: browser.is_seen("#key"))
    browser.type("#key", key)
    browser.press("#key-form button")
    browser.wait(lambda: is_settled(browser) and browser.count("#campaigns button"))
    assert EVIL in browser.text("#campaigns")
    browser.complaints()
    browser.press("#campaigns button")
    browser.wait(lambda: len(browser.driver.window_handles) == 2)
    browser.driver.switch_to.window(browser.driver.window_handles[1])
    browser.wait(lambda: browser.count("section"))
    assert browser.text("h1") == "Campaign lamps"
    assert EVIL in browser.text("body")
    for width in (1200, 390):
        browser.driver.set_window_size(width, 900)
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.run("return getComputedStyle(document.querySelector('section')).borderRadius") != "0px"  # its style
    assert browser.complaints() == []
    assert {url.startswith(("blob:", "about:", server.url)) for _, url in browser.requests()} == {True}
